print("updated")
