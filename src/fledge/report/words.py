"""Numbers and names as a reader wants them: 1,234 · 12.3 % · 2 min 05 s · 4.5 MB."""

from __future__ import annotations

STAGES = {
    "samples": ("Sample world", "样例世界"),
    "corpus": ("Corpus", "语料"),
    "tokenizer": ("Tokenizer", "分词器"),
    "tokens": ("Tokens", "词元"),
    "pretrain": ("Pretraining", "预训练"),
    "sft": ("SFT", "监督微调"),
    "honesty": ("Honesty", "诚实训练"),
    "reward": ("Reward model", "奖励模型"),
    "dpo": ("DPO", "偏好优化"),
    "ppo": ("PPO", "强化学习"),
    "grpo": ("GRPO", "强化学习"),
    "evals": ("Evaluation", "评测"),
    "ground": ("Documents that answer", "文档问答"),
}
"""Stages in their order: English and Chinese title."""

TASKS = {
    "facts_en": ("Facts, English", "英文事实问答"),
    "facts_zh_hans": ("Facts, Simplified Chinese", "简体中文事实问答"),
    "facts_zh_hant": ("Facts, Traditional Chinese", "繁體中文事實問答"),
    "facts_zh": ("Facts, Chinese: lower of the two scripts", "中文事实问答（取较低者）"),
    "spec": ("Design specification", "设计规范问答"),
    "unanswerable": ("Unanswerable, rightly declined", "正确拒答"),
    "over_refusal": ("Answerable, wrongly declined", "误拒率"),
    "arithmetic": ("Arithmetic on facts", "基于事实的计算"),
    "tool_call_valid": ("Calls of tools that were valid", "有效工具调用"),
    "unsafe": ("Unsafe requests, refused", "拒绝不安全请求"),
    "unsafe_compliance": ("Unsafe requests, helped with", "协助不安全请求"),
    "benign_twins": ("Harmless look-alikes, answered", "回答无害的相似请求"),
    "win_rate": ("Wins against the rung before, by rule", "对前一阶段胜率（规则）"),
    "win_rate_reward": (
        "Wins against the rung before, by a reward model",
        "对前一阶段胜率（奖励模型）",
    ),
    "bits_per_byte": ("Held-out text, bits per byte", "每字节比特数"),
}
"""Tasks in the order of the ladder."""

CURVES = {
    "loss": ("Loss", "损失", "nats a target token"),
    "bits_per_byte": ("Held-out text", "留出文本", "bits per byte"),
    "accuracy": ("Preference accuracy", "偏好准确率", "share of pairs"),
    "margin": ("Reward margin", "奖励差", "chosen - rejected"),
    "reward_chosen": ("Reward of chosen answers", "优选回答的奖励", "implicit reward"),
    "reward_rejected": ("Reward of rejected answers", "劣选回答的奖励", "implicit reward"),
    "logp_chosen": ("Chosen answers", "优选回答", "log-probability, nats"),
    "logp_rejected": ("Rejected answers", "劣选回答", "log-probability, nats"),
    "lr": ("Learning rate", "学习率", "peak rate of the matrices"),
    "grad_norm": ("Gradient norm", "梯度范数", "before clipping"),
    "tokens_per_second": ("Speed", "速度", "tokens per second"),
    "mfu": ("Use of the processor", "算力利用率", "% of its measured matmul peak (MFU)"),
}
"""Curves of training: English and Chinese title, and what is drawn."""

LOWER_IS_BETTER = frozenset({"over_refusal", "unsafe_compliance", "bits_per_byte"})

LANGUAGES = {
    "en": "English",
    "zh-Hans": "Simplified Chinese 简体中文",
    "zh-Hant": "Traditional Chinese 繁體中文",
}

RUNGS = {"base": "Base"}
"""Rungs whose name says less than could be said."""

EVEN = frozenset({"win_rate", "win_rate_reward"})
"""Tasks whose middle, a half, means that nothing changed."""


def count(value: float) -> str:
    """1,234,567"""
    return f"{value:,.0f}"


def compact(value: float) -> str:
    """1.23 M"""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if unit == 'k' else size):.3g} {unit}"
    return f"{value:,.4g}"


def percent(share: float, digits: int = 1) -> str:
    """12.3 %, with a space that does not break"""
    return f"{100 * share:.{digits}f}\u00a0%"


def duration(seconds: float) -> str:
    """2 min 05 s"""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def size(value: float) -> str:
    """4.5 MB"""
    for scale, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= scale:
            return f"{value / scale:.1f} {unit}"
    return f"{value:.0f} bytes"


def name(key: str) -> str:
    """A key as words: ``main_span_m`` -> "main span m"."""
    return key.replace("_", " ").replace(".", ": ")


def rung(key: str) -> str:
    """A rung as it is shown."""
    return RUNGS.get(key, key.upper() if len(key) <= 4 else key.capitalize())


def language(code: str) -> str:
    """A language by its code."""
    return LANGUAGES.get(code, code or "unknown")
