"""SFT: learn the protocol from demonstrations, or from a file of conversations."""

from __future__ import annotations

from tau2_exp.config import SftConfig
from tau2_exp.runs.run import Run
from tau2_exp.stages.context import StageContext
from tau2_exp.stages.fit import fit
from tau2_exp.stages.learner import Learner, new_tokenizer
from tau2_exp.stages.rows import sft_examples, sft_row, sft_rows, sft_summary


async def sft(run: Run) -> None:
    """Train on the parent's demonstrations or a file of conversations, and finish the run with its model."""
    context, stage = StageContext(run), run.config.stage
    assert isinstance(stage, SftConfig)
    examples = sft_examples(run)
    learner = Learner(
        context, lambda: new_tokenizer(context, lambda letters: (sft_row(context, letters, e) for e in examples))
    )
    summary = sft_summary(fit(learner, sft_rows(context, learner.tokenizer, examples), stage))
    vocabulary = learner.model.vocab_size
    print(f"sft: {summary['conversations']} conversations, {summary['tokens']} tokens, vocabulary {vocabulary}")
    learner.finish({**summary, "steps": learner.step})
