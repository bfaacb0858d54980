"""What the paper prints: accuracies in % (Tables 1, 2, 3, 5) and seconds an epoch (Table 4)."""

from __future__ import annotations

_COLUMNS = {
    "mnist": ("FGSM", "PGD-5", "PGD-40", "clean"),
    "svhn": ("FGSM", "PGD-5", "PGD-10", "PGD-20", "clean"),
    "cifar10": ("FGSM", "PGD-5", "PGD-10", "PGD-20", "clean"),
}
_ROWS = {
    # Table 1
    ("mnist", "standard"): (76.5, 0, 0, 98.7),
    ("mnist", "uniform_noise"): (77.5, 0, 0.02, 98.7),
    ("mnist", "jarn"): (98.4, 98.1, 98.1, 98.8),
    # Table 2
    ("svhn", "standard"): (64.4, 26.0, 5.47, 1.96, 94.7),
    ("svhn", "uniform_noise"): (65.0, 42.6, 18.4, 9.21, 95.3),
    ("svhn", "jarn"): (67.2, 57.5, 37.7, 26.79, 94.9),
    # Table 3
    ("cifar10", "standard"): (13.4, 0, 0, 0, 95.0),
    ("cifar10", "uniform_noise"): (67.4, 44.6, 19.7, 7.48, 94.0),
    ("cifar10", "fgsm_at"): (94.5, 0.25, 0.02, 0.01, 91.7),
    ("cifar10", "double_backprop"): (28.3, 0.05, 0, 0, 95.7),
    ("cifar10", "jarn"): (67.2, 50.0, 27.6, 15.5, 93.9),
    ("cifar10", "pgd_at"): (56.2, 55.5, 47.3, 45.9, 87.3),
    ("cifar10", "jarn_at"): (65.7, 60.1, 51.8, 46.7, 84.8),
}

#: (dataset, row, column) to accuracy in %, at the paper's radius and settings.
ACCURACY: dict[tuple[str, str, str], float] = {
    (dataset, row, column): value
    for (dataset, row), values in _ROWS.items()
    for column, value in zip(_COLUMNS[dataset], values)
}

#: Table 4: row to seconds an epoch on CIFAR-10.
SECONDS_AN_EPOCH = {"pgd_at": 704, "jarn_at": 294, "fgsm_at": 267, "jarn": 217}

#: Table 5, CIFAR-10: (row, column) to accuracy in %.
TRANSFER: dict[tuple[str, str], float] = {
    (row, column): value
    for row, values in {
        "jarn": (79.6, 76.7, 73.6, 17.4, 67.2, 15.5, 93.9),
        "jarn_at": (66.4, 63.0, 70.3, 59.3, 65.7, 46.7, 84.8),
    }.items()
    for column, value in zip(
        (
            "PGD-AT7, FGSM",
            "PGD-AT7, PGD-20",
            "same model, FGSM",
            "same model, PGD-20",
            "white-box, FGSM",
            "white-box, PGD-20",
            "clean",
        ),
        values,
    )
}
