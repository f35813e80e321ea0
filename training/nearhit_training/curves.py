"""Draw what a training run looked like."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def draw_verifier(curve: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw loss, AUC of each check set and pooled recall over steps, as PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    steps = [point["step"] for point in curve]
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(15, 4.5))
    left.plot(steps, [point["loss"] for point in curve], marker="o")
    left.set_title("training loss")
    for name in curve[0]["checks"]:
        drawn = middle.plot(
            steps, [point["checks"][name]["verifier"]["auc"] for point in curve], label=name
        )
        cosine = curve[0]["checks"][name]["cosine"]["auc"]
        middle.axhline(cosine, color=drawn[0].get_color(), linestyle=":", linewidth=0.7)
    middle.set_title("AUC (dotted: cosine)")
    middle.legend(fontsize=7)
    pooled = [point["checks"]["pooled"]["verifier"]["recall"] for point in curve]
    for wrong in pooled[0]:
        right.plot(steps, [p[wrong] for p in pooled], label=f"at most {float(wrong):.0%} wrong")
    right.set_title("recall, all check sets pooled")
    right.legend(fontsize=7)
    for axes in (left, middle, right):
        axes.set_xlabel("step")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def draw_losses(
    losses: Sequence[tuple[int, float]], dev: Sequence[tuple[int, float]], path: Path
) -> None:
    """Draw an adapter's loss and dev separation over steps, as PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    left.plot(*zip(*losses, strict=True)) if losses else None
    left.set_title("training loss")
    right.plot(*zip(*dev, strict=True), marker="o") if dev else None
    right.set_title("dev AUC")
    for axes in (left, right):
        axes.set_xlabel("step")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    plt.close(figure)
