"""The precision for a device, and the description of the processor."""

from typing import Any

import pytest
import torch

from asr.system import processor
from asr.system.processor import PrecisionChoice, bfloat16_source, choose_precision, describe_processor, uses_avx512

CPU = torch.device("cpu")
ZEN_2 = {"architecture": "x86_64", "avx2": True, "avx512_bw": False, "avx512_bf16": False, "amx_bf16": False}
SKYLAKE_X = {**ZEN_2, "avx512_bw": True}
ZEN_4 = {**SKYLAKE_X, "avx512_bf16": True}
SAPPHIRE_RAPIDS = {**ZEN_4, "amx_bf16": True}
GRAVITON_2 = {"architecture": "aarch64", "neon": True, "bf16": False}
GRAVITON_3 = {**GRAVITON_2, "bf16": True}


@pytest.fixture(autouse=True)
def all_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.delenv("DNNL_MAX_CPU_ISA", raising=False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)


@pytest.mark.parametrize(
    ("has", "limit", "expected"),
    [
        (ZEN_2, "", "float32"),
        (SKYLAKE_X, "", "float32"),
        (ZEN_4, "", "bfloat16"),
        (SAPPHIRE_RAPIDS, "", "bfloat16"),
        (GRAVITON_2, "", "float32"),
        (GRAVITON_3, "", "bfloat16"),
        (ZEN_4, "AVX2", "float32"),
        (ZEN_4, "avx2_vnni_2", "float32"),
        (ZEN_4, "AVX512_CORE_VNNI", "float32"),
        (ZEN_4, "AVX512_CORE_BF16", "bfloat16"),
        (ZEN_4, "DEFAULT", "bfloat16"),
        (ZEN_4, "ALL", "bfloat16"),
        (GRAVITON_3, "AVX2", "bfloat16"),
    ],
)
def test_auto_is_bfloat16_where_it_is_computed_in(
    has: dict[str, Any], limit: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if limit:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert choose_precision("auto", CPU, has)[::2] == (expected, "")
    name, _, warning = choose_precision("bfloat16", CPU, has)
    assert name == "bfloat16"
    assert ("only emulates" in warning and "ten times" in warning) == (expected == "float32")


def test_the_older_variable_counts_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DNNL_MAX_CPU_ISA", "AVX2")
    assert bfloat16_source(CPU, ZEN_4) == ""
    assert not uses_avx512(ZEN_4)


def test_without_onednn_there_is_no_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    choice = choose_precision("auto", CPU, GRAVITON_3)
    assert choice == PrecisionChoice("float32", "this processor does not compute in bfloat16")


def test_what_is_asked_for_is_given() -> None:
    for wanted in ("float32", "int8"):
        assert choose_precision(wanted, CPU, ZEN_4) == PrecisionChoice(wanted, "set explicitly")


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "float32"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")])
def test_cuda_from_ampere_on(capability: tuple[int, int], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a card")
    choice = choose_precision("auto", torch.device("cuda"))
    assert choice.name == expected
    assert ("a card" if expected == "float32" else f"{capability[0]}.{capability[1]}") in choice.why


def test_avx512_is_what_onednn_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [uses_avx512(has) for has in (ZEN_2, SKYLAKE_X, ZEN_4, GRAVITON_3)] == [False, True, True, False]
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
    assert uses_avx512(ZEN_4)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2_VNNI_2")
    assert not uses_avx512(ZEN_4)


def test_the_description_names_processor_instructions_and_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {**ZEN_4, "cpu_name": "A chip"})
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "avx2")
    threads = torch.get_num_threads()
    assert describe_processor() == f"A chip, {threads} threads, AVX2, AVX-512, AVX-512-BF16; oneDNN limited to AVX2"
    assert processor.onednn_limit() == "AVX2"
