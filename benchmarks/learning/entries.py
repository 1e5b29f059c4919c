"""Which strategies are entered, each as its page recommends it."""

from benchmarks.learning.simulate import Entry

BASELINE = "random"

ENTRIES = [
    Entry("random", "random"),
    Entry("margin", "margin"),
    Entry("entropy", "entropy"),
    Entry("least_confidence", "least_confidence"),
    Entry("expected_gradient_length", "expected_gradient_length"),
    Entry("k_center", "k_center"),
    Entry("kmeans", "kmeans"),
    Entry("kmeans_pp", "kmeans_pp"),
    Entry("typiclust", "typiclust"),
    Entry("prob_cover", "prob_cover"),
    Entry("facility_location", "facility_location"),
    Entry("max_herding", "max_herding"),
    Entry("graph_cut", "graph_cut"),
    Entry("log_det", "log_det"),
    Entry("badge", "badge"),
    Entry("cluster_margin", "cluster_margin"),
    Entry("clue", "clue"),
    Entry("fass", "fass", "margin"),
    Entry("weighted_kmeans", "weighted_kmeans", "margin"),
    Entry("u_herding", "u_herding", "margin"),
    Entry("information_density", "information_density", "margin"),
    Entry("drop_query", "drop_query"),
    Entry("contrastive", "contrastive"),
    Entry("discriminative", "discriminative"),
    Entry("galaxy", "galaxy"),
    Entry("tcm", "tcm"),
]
