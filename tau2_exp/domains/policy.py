"""The documents of τ²-bench's agents: each domain's policy, and this project's shorter versions."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources

from tau2_exp.config import Document

_SECTIONS = {
    "telecom": (("main_policy", "main_policy.md"), ("tech_support_policy", "tech_support_manual.md")),
}


def policy_text(domain: str, read: Callable[[str], str]) -> str:
    """The domain's policy, whole; `read` gives the text of one of τ²-bench's data files."""
    sections = _SECTIONS.get(domain)
    if sections is None:
        return read(f"domains/{domain}/policy.md")
    return "\n".join(f"<{tag}>\n{read(f'domains/{domain}/{file}')}\n</{tag}>" for tag, file in sections)


def document_text(domain: str, kind: Document, policy: str) -> str:
    """The document that a model is shown; mock's policy is too short to have a compressed one."""
    if kind is Document.none:
        return ""
    if kind is Document.full or domain == "mock":
        return policy
    return resources.files(__package__).joinpath("documents", f"{domain}.md").read_text(encoding="utf-8")
