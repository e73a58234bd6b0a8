"""The arithmetic of benchmarks/radiomics.py on made-up seconds; nothing is timed here."""

import sys

import pytest
from benchmark_modules import BENCHMARKS, imported, load, load_as_worker

PROMISED = {
    "speedup_pyradiomics_ibsi_ct",
    "speedup_flash_ibsi_ct",
    "speedup_pyradiomics_large",
    "speedup_fastrad_lung1",
    "speedup_maps_pyradiomics",
    "full_over_shared",
    "peak_gib_large",
}


summary = load("radiomics_peers.summary")


def compared(peer="pyradiomics", case="ibsi_ct", job="shared", peer_s=(4.0, 6.0, 5.0), idx_s=(0.5, 0.2, 0.1)):
    return summary.Comparison(peer, case, job, peer_s=list(peer_s), idx_s=list(idx_s))


def test_speedup_is_the_ratio_of_medians_with_the_range_of_one_round():
    row = compared().as_dict()
    assert row["peer_median_s"] == 5.0
    assert row["idx_median_s"] == 0.2
    assert row["speedup"] == pytest.approx(25.0)
    assert (row["lowest_paired_ratio"], row["highest_paired_ratio"]) == pytest.approx((8.0, 50.0))
    assert row["peer_s"] == [4.0, 6.0, 5.0]


def test_a_failed_comparison_has_no_speedup_even_after_some_rounds():
    failed = compared()
    failed.error = "killed"
    assert failed.speedup is None
    assert failed.as_dict()["error"] == "killed"
    assert compared(peer_s=(), idx_s=()).speedup is None


def test_summary_takes_each_speedup_from_its_own_peer_case_and_job():
    keys = list(summary.SPEEDUPS.values())
    comparisons = [compared(*key, peer_s=[n + 2.0], idx_s=[1.0]) for n, key in enumerate(keys)]
    decoys = [compared("nyxus"), compared(case="brain1"), compared(job="shape"), compared("flash", job="everything")]
    full = {"ibsi_ct": {"full_s": [3.0, 9.0, 6.0], "shared_s": [2.0, 4.0, 3.0]}, "large": {"full_s": [100.0], "shared_s": [1.0]}}
    values, reasons = summary.summarise(decoys + comparisons, full, {"peak_bytes": 3 * 2**29})
    assert set(values) == PROMISED
    assert [values[name] for name in summary.SPEEDUPS] == [2.0, 3.0, 4.0, 5.0, 6.0]
    assert values["full_over_shared"] == 2.0
    assert values["peak_gib_large"] == 1.5
    assert reasons == {}


def test_what_was_not_measured_is_missing_with_its_reason():
    failed = compared("flash")
    failed.error = "flash raised ValueError"
    values, reasons = summary.summarise([failed], {"ibsi_ct": {"error": "idx raised"}}, {"error": "out of memory"})
    assert set(values.values()) == {None}
    assert set(reasons) == PROMISED
    assert reasons["speedup_flash_ibsi_ct"] == "flash raised ValueError"
    assert reasons["full_over_shared"] == "idx raised"
    assert reasons["peak_gib_large"] == "out of memory"
    assert "not chosen" in reasons["speedup_fastrad_lung1"]
    _, unmeasured = summary.summarise([], {}, {})
    assert set(unmeasured) == PROMISED


def test_agreement_counts_numbers_of_the_same_name_within_a_relative_difference():
    found = summary.agreement({"a": 1.0, "b": -2.0, "c": 0.0, "only theirs": 1.0}, {"a": 1.0 + 9e-7, "b": -2.00001, "c": 0.0, "only ours": 1.0})
    assert (found["n_compared"], found["n_agree"]) == (3, 2)
    assert found["differ"] == {"b": [-2.0, -2.00001]}


def test_jobs_are_split_by_family_in_pyradiomics_order():
    measuring = load_as_worker("radiomics_peers", "measuring")
    names = ["glcm_Contrast", "shape_Flatness", "glcm_Id"]
    assert measuring.families_of(names) == ["shape", "glcm"]
    assert measuring.by_family(names) == {"shape": ["Flatness"], "glcm": ["Contrast", "Id"]}


def test_a_worker_answers_failures_of_its_peer_and_times_only_the_call():
    measuring = load_as_worker("radiomics_peers", "measuring")
    clock = []

    class Peer(measuring.Peer):
        includes = "nothing"

        def load(self, image, mask, quantity):
            clock.append("load")
            return image

        def job(self, case, kind, features):
            clock.append("prepare")
            return lambda: clock.append("call") or {"a": 1.0, "b": float("nan")}

        def values(self, result):
            clock.append("values")
            return result

    loaded = {}
    measuring.answer(Peer(), {"do": "load", "case": "x", "image": "i", "mask": "m", "quantity": "hu"}, loaded)
    answer = measuring.answer(Peer(), {"do": "run", "case": "x", "kind": "shared", "features": [], "values": True}, loaded)
    assert clock == ["load", "prepare", "call", "values"]
    assert answer["n"] == 2
    assert answer["values"] == {"a": 1.0}  # JSON has no NaN
    assert answer["seconds"] >= 0.0


def test_what_runs_in_a_peers_environment_imports_nothing_of_idx():
    for path in (BENCHMARKS / "radiomics_peers").glob("serve_*.py"):
        assert ("idx" in imported(path)) == (path.stem == "serve_idx")
    assert imported(BENCHMARKS / "peers" / "serving.py") <= sys.stdlib_module_names
    assert imported(BENCHMARKS / "radiomics_peers" / "measuring.py") <= sys.stdlib_module_names | {"serving"}
