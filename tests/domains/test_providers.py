"""Which package τ²-bench comes from, and what is said where it does not come."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from tau2_exp.config import Provider
from tau2_exp.domains import ProviderError, load_domain
from tau2_exp.domains.providers import DataFolder, find_source, sierra_installed, wrong_tau2


@pytest.fixture
def chemistry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The unrelated package that PyPI calls tau2, as pip would leave it."""
    if sierra_installed():
        pytest.skip("τ²-bench's own package is installed")
    (tmp_path / "tau2").mkdir()
    (tmp_path / "tau2" / "__init__.py").write_text("raise RuntimeError('imported')")
    info = tmp_path / "tau2-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tau2\nVersion: 0.1\nSummary: Absorption timescales\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()


@pytest.mark.usefixtures("chemistry")
def test_the_wrong_tau2_is_named_and_never_imported(caplog: pytest.LogCaptureFixture) -> None:
    assert wrong_tau2() == "the installed package tau2 (Absorption timescales) is not τ²-bench"
    with pytest.raises(ProviderError, match="Absorption timescales"):
        find_source(Provider.sierra)
    assert find_source(Provider.auto).name.startswith("inspect-evals ")
    assert "Absorption timescales" in caplog.text


def test_missing_sierra_is_said_in_one_line() -> None:
    if sierra_installed() or wrong_tau2():
        pytest.skip("a package tau2 is installed")
    with pytest.raises(ProviderError, match="not installed; pip install"):
        find_source(Provider.sierra)


def test_a_missing_data_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match=r"domains/airline/db\.json is missing in"):
        DataFolder(tmp_path).read("domains/airline/db.json")


def test_unknown_domains_are_refused() -> None:
    with pytest.raises(ValueError, match="airline, retail, telecom, mock"):
        load_domain("banking")


def test_a_domain_says_where_it_comes_from() -> None:
    domain = load_domain("telecom", Provider.inspect)
    assert domain.provider.startswith("inspect-evals ")
    assert domain.revision == "tau2-bench@337326e"
