"""The card of a bundle for people: what the files are, what was measured, in Markdown with one picture."""


def markdown(card):
    """Return the text of `card.md` for the contents of `card.json`."""
    metric = card["metric"]
    rows = [
        f"| {m['name']} | {m['scheme']} | {m['target']} | {m['bytes'] / 1024:.0f} | {m['latency_ms']:.2f} | "
        f"{m['metric']:.4f} |"
        for m in card["models"]
    ]
    forms = [
        f"| {m['name']} | {c['layer']} | {c['kind']} | {c['form']} | {c['reason']} |"
        for m in card["models"]
        for c in m["plan"]
    ]
    settings = "\n".join(f"- {name}: {value}" for name, value in card["settings"].items())
    return "\n".join(
        [
            f"# {card['recipe']}",
            "",
            f"Written {card['created']} by recurrent-zoo {card['versions']['recurrent-zoo']}. The Keras model reaches "
            f"{metric['name']} {metric['model']:.4f} on {metric['examples']} held-out examples.",
            "",
            f"| file | scheme | target | KiB | ms | {metric['name']} |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            "ms: median of one invocation, one thread, on the machine that exported.",
            "",
            "![sizes and latencies](card.png)",
            "",
            "## Use",
            "",
            "    python run.py FILE",
            "    python run.py --check",
            "",
            f"It needs {', '.join(['NumPy', *card.get('packages', [])])} and, for .tflite, ai-edge-litert or, for "
            ".onnx, onnxruntime.",
            "",
            "## Recurrent layers",
            "",
            "| file | layer | kind | form | reason |",
            "|---|---|---|---|---|",
            *forms,
            "",
            "## Settings",
            "",
            settings,
            "",
        ]
    )


def picture(card, path):
    """Draw size, latency and metric of every model file side by side into a PNG at `path`."""
    from matplotlib.figure import Figure

    models = card["models"]
    names = [
        " ".join([m["format"], m["scheme"], m["target"] * (m["target"] != "linux"), m.get("part", "")]).strip()
        for m in models
    ]
    columns = [
        ("size, KiB", [m["bytes"] / 1024 for m in models], "{:.0f}"),
        ("latency, ms", [m["latency_ms"] for m in models], "{:.2f}"),
        (card["metric"]["name"], [m["metric"] for m in models], "{:.3f}"),
    ]
    figure = Figure(figsize=(10, 0.8 + 0.4 * len(models)), layout="constrained")
    for axes, (title, values, text) in zip(figure.subplots(1, 3, sharey=True), columns, strict=True):
        bars = axes.barh(names, values, color="#4c72b0")
        axes.bar_label(bars, [text.format(value) for value in values], padding=3)
        axes.set_title(title, fontsize=10)
        axes.margins(x=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.invert_yaxis() if axes.get_subplotspec().is_first_col() else None
    figure.savefig(path, dpi=120)
