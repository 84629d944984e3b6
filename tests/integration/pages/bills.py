print("bills")
