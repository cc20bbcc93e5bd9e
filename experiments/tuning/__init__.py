"""A search for hyperparameters with Optuna: ``metarl tune``."""
