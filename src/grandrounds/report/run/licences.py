"""The licence of a base model or of a data set, where its files on this machine say one. Nothing is downloaded."""

from __future__ import annotations

from pathlib import Path

CARD = "README.md"
KEYS = ("license", "license_name", "licence")


def licence_of(name: str, kind: str = "model") -> str:
    """The licence that the card of a folder, or of a Hub name in the local cache, states; "" where none is known.

    kind: "model" or "dataset".
    """
    card = _card(name, kind)
    return _stated(card) if card is not None else ""


def _card(name: str, kind: str) -> Path | None:
    path = Path(name)
    if path.exists():
        folder = path if path.is_dir() else path.parent
        return folder / CARD if (folder / CARD).is_file() else None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, CARD, repo_type=kind)
    except HFValidationError:  # neither a file here nor a name there
        return None
    return Path(found) if isinstance(found, str) else None


def _stated(card: Path) -> str:
    """The licence in the card's front matter, YAML between two lines of dashes."""
    import yaml

    try:
        text = card.read_text(encoding="utf-8", errors="replace")
        _, front, _ = text.split("---", 2) if text.startswith("---") else ("", "", "")
        fields = yaml.safe_load(front)
    except (OSError, ValueError, yaml.YAMLError):
        return ""
    if not isinstance(fields, dict):
        return ""
    found = [fields[key] for key in KEYS if fields.get(key)]
    named = found[-1] if found and found[0] == "other" else (found[0] if found else "")
    return ", ".join(map(str, named)) if isinstance(named, list) else str(named)
