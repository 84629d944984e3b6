"""What an analyst's agent wrote: totals by month, and a plot of them."""

import sys

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd

sales = pd.read_csv("/artifacts/sales.csv")
sales["revenue"] = sales["units"] * sales["price"]
totals = sales.pivot_table(index="month", columns="region", values="revenue", aggfunc="sum")
totals["total"] = totals.sum(axis="columns")
print(totals.round(2).to_string())

axes = totals[["north", "south"]].plot.bar(stacked=True, rot=0, title=" ".join(sys.argv[1:]))
axes.set_ylabel("revenue")
plt.tight_layout()
plt.savefig("/artifacts/out/revenue.png", dpi=100)
totals.round(2).to_csv("/artifacts/out/totals.csv")
