"""The pool to measure on: clustered vectors of a known class each."""

import numpy as np

CLASSES = 20
GENERATE_ROWS = 50_000


def embeddings(rows: int, dimension: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of length 1 around one centre a class, wide enough for the classes to overlap, and their classes."""
    rng = np.random.default_rng(seed)
    centres_CD = rng.normal(size=(CLASSES, dimension)).astype(np.float32)
    classes_N = rng.integers(0, CLASSES, rows).astype(np.int32)
    vectors_ND = np.empty((rows, dimension), np.float32)
    for start in range(0, rows, GENERATE_ROWS):
        block = slice(start, min(start + GENERATE_ROWS, rows))
        noise_BD = rng.standard_normal(vectors_ND[block].shape, np.float32)
        vectors_BD = centres_CD[classes_N[block]] + 4.0 * noise_BD
        vectors_ND[block] = vectors_BD / np.linalg.norm(vectors_BD, axis=1, keepdims=True)
    return vectors_ND, classes_N


def class_names() -> list[str]:
    """Names of the classes."""
    return [f"class-{index:02d}" for index in range(CLASSES)]
