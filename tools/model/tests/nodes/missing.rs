[
    "BitCast",
    "CumProd",
    "DeformConv",
]
