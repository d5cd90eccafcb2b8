"""Mistakes around the steps of a run: order, staleness, state that only resume and reshard read."""

from tests.planted import Mistake

LOOP = """\
                    if last or step % (o.eval_every or self.epoch) == 0 or step % self.epoch == 0:
                        log.write({"step": step, **self.evaluate(step)})
                    stop = self.agreed(asked)
                    if last or stop or step % (o.save_every or self.epoch) == 0:
                        self.save(step, record["epoch"])
                    self.tell(step)
"""
EVALUATE, AGREE, SAVE, TELL = (
    "".join(LOOP.splitlines(True)[a:b]) for a, b in ((0, 2), (2, 3), (3, 5), (5, 6))
)

RUN = (
    Mistake(
        "a step is saved before it is evaluated",
        LOOP,
        AGREE + SAVE + EVALUATE + TELL,
        ("test_what_is_not_finite_at_the_end_is_not_saved_over_what_is",),
    ),
    Mistake(
        "the launcher is told what is left before the step is saved",
        LOOP,
        EVALUATE + AGREE + TELL + SAVE,
        ("test_the_launcher_knows_the_newest_checkpoint",),
    ),
    Mistake(
        "a run that is told to stop is not saved",
        "if last or stop or step %",
        "if last or step %",
        ("test_a_run_whose_terminal_closes_saves",),
    ),
    Mistake(
        "a signal at the last step leaves the run unfinished",
        "if stop and not last:",
        "if stop:",
        ("test_a_signal_at_the_last_step_finds_a_finished_run",),
    ),
    Mistake(
        "with --eval-every nothing is evaluated at an epoch's end",
        " or step % self.epoch == 0:",
        ":",
        ("test_each_epoch_ends_with_an_evaluation_and_a_checkpoint_says_which_it_is",),
    ),
    Mistake(
        "what was saved before a resume is forgotten",
        'self.start = self.saved = state["step"]',
        'self.start = state["step"]',
        ("test_what_is_not_finite_at_the_end_is_not_saved_over_what_is",),
    ),
    Mistake(
        "a resumed run starts a new log",
        "if self.folder and first else None, self.start)",
        "if self.folder and first else None)",
        ("test_a_crash_between_checkpoints_leaves_no_step_twice",),
    ),
    Mistake(
        "the log keeps one step too many",
        'r["step"] <= start',
        'r["step"] <= start + 1',
        ("test_a_crash_between_checkpoints_leaves_no_step_twice",),
    ),
    Mistake(
        "the epoch that is saved is a number of steps",
        'self.save(step, record["epoch"])',
        "self.save(step, self.epoch)",
        ("test_each_epoch_ends_with_an_evaluation_and_a_checkpoint_says_which_it_is",),
    ),
    Mistake(
        "only the held-out text is compared on resuming",
        'state["digest"] != self.texts.digests["digest"]',
        'state["held_out"] != self.texts.digests["held_out"]',
        ("test_a_change_of_either_text_is_noticed_on_resuming",),
    ),
    Mistake(
        "only the training text is compared on resuming",
        '"digest": zlib.crc32(other_stream, zlib.crc32(learned_stream))',
        '"digest": zlib.crc32(learned_stream)',
        ("test_a_change_of_either_text_is_noticed_on_resuming",),
    ),
    Mistake(
        "the digest of the held-out text is that of the training text",
        '"held_out": zlib.crc32(other_stream)',
        '"held_out": zlib.crc32(learned_stream)',
        ("test_evaluation_repeats_the_last_line_of_the_log",),
    ),
    Mistake(
        "the shares of unknown words are swapped",
        "shares = unknown_share(learned_stream, tokenizer), unknown_share(other_stream, tokenizer)",
        "shares = unknown_share(other_stream, tokenizer), unknown_share(learned_stream, tokenizer)",
        ("test_few_unknown_tokens_are_told_of_without_a_warning",),
    ),
    Mistake(
        "config.toml keeps what a resumed run was told to change",
        "self.write_options(work)  # layout and",
        'work.write_bytes((self.folder / "config.toml").read_bytes())  # layout and',
        ("test_a_run_goes_on_from_another_folder_and_with_a_text_that_was_moved",),
    ),
    Mistake(
        "a finished run cannot be resumed",
        "if self.start > self.steps:",
        "if self.start >= self.steps:",
        ("test_a_finished_run_says_so_and_how_to_go_on",),
    ),
    Mistake(
        "a resumed run begins with the loss scale of a new one",
        'vars(self.scale).update(state.get("loss_scale", {}))',
        "pass",
        ("test_a_resumed_16_bit_run_is_an_uninterrupted_one_bit_for_bit",),
    ),
    Mistake(
        "the loss scale is saved without its count of steps that fitted",
        'state["loss_scale"] = vars(self.scale)',
        'state["loss_scale"] = {k: v for k, v in vars(self.scale).items() if k != "good"}',
        ("test_a_run_that_goes_on_is_the_uninterrupted_one[resumed-adamw]",),
    ),
    Mistake(
        "a checkpoint takes the run's steps for the optimizer's",
        "headers_of(model.config, step, optimizer.steps, ",
        "headers_of(model.config, step, step, ",
        ("test_a_run_that_goes_on_is_the_uninterrupted_one[resumed-adamw]",),
    ),
    Mistake(
        "reshard takes the run's steps for the optimizer's",
        'steps = int(stored["optimizer"].header["steps"])',
        'steps = state["step"]',
        ("test_a_run_that_goes_on_is_the_uninterrupted_one[resharded-adamw]",),
    ),
    Mistake(
        "reshard drops the loss scale",
        'checkpoint.finish_folder(new, divisions, state | {"layout": str(layout)})',
        'state.pop("loss_scale", 0)\n'
        '    checkpoint.finish_folder(new, divisions, state | {"layout": str(layout)})',
        ("test_a_run_that_goes_on_is_the_uninterrupted_one[resharded-adamw]",),
    ),
    Mistake(
        "reshard drops what a later version wrote into the state",
        'divisions, state | {"layout"',
        'divisions, {k: state[k] for k in ("step", "epoch", "digest", "loss_scale")} | {"layout"',
        ("test_what_a_checkpoint_says_of_things_to_come_is_kept",),
    ),
    Mistake(
        "reshard forgets which tokenizer the model was trained with",
        'state["step"], steps, stored["model"].header.get("tokenizer"))',
        'state["step"], steps)',
        ("test_a_checkpoint_that_knows_no_digests_is_read",),
    ),
    Mistake(
        "the masters of 16-bit weights restart from the rounded weights",
        "optimizer.state.setdefault(name, {})[slot] = xp.asarray(array)",
        'slot == "master" or optimizer.state.setdefault(name, {}).update({slot: xp.asarray(array)})',
        ("test_a_resumed_16_bit_run_is_an_uninterrupted_one_bit_for_bit",),
    ),
    Mistake(
        "the optimizer's count restarts at 0",
        'optimizer.steps, optimizer.state = int(remembered.header["steps"]), {}',
        "optimizer.state = {}",
        ("test_what_is_saved_comes_back_bit_for_bit",),
    ),
    Mistake(
        "`latest` names a checkpoint before it has its name",
        'put_checkpoint(work, run / f"step-{step}")\n        replace_text(run / "latest", f"step-{step}")',
        'replace_text(run / "latest", f"step-{step}")\n        put_checkpoint(work, run / f"step-{step}")',
        ("test_a_full_disk_leaves_the_last_checkpoint_whole",),
    ),
    Mistake(
        "old checkpoints are removed before `latest` names the new one",
        'replace_text(run / "latest", f"step-{step}")\n        prune(run, step, keep)',
        'prune(run, step, keep)\n        replace_text(run / "latest", f"step-{step}")',
        ("test_no_checkpoint_goes_before_latest_names_the_next",),
    ),
    Mistake(
        "pruning counts checkpoints after the one that was written",
        "checkpoints(run).items() if n <= step]",
        "checkpoints(run).items()]",
        ("test_latest_set_back_goes_on_from_there",),
    ),
    Mistake(
        "an unknown array of a model is silently ignored",
        "stages_of(model).entire.parameters().keys() ^ set(parts)",
        "stages_of(model).entire.parameters().keys() - set(parts)",
        ("test_a_bad_file_is_refused_in_one_sentence",),
    ),
    Mistake(
        "weights and state.json may be of two steps",
        'if state and parts.header.get("step", str(state.get("step"))) != str(state.get("step")):',
        "if False:",
        ("test_the_state_of_another_step_is_refused",),
    ),
    Mistake(
        "the tokenizer's digest is not compared",
        "tokenizer.size != config.vocab_size or (known and known != tokenizer_digest(tokenizer))",
        "tokenizer.size != config.vocab_size",
        ("test_the_tokenizer_of_another_run_is_noticed_by_every_reader",),
    ),
    Mistake(
        "--num-epochs on resuming loses to the steps of the run",
        'changes["num_steps"] = None',
        "pass",
        ("test_epochs_on_resuming_replace_the_steps_of_the_run",),
    ),
    Mistake(
        "--threads on resuming with other ranks is forgotten",
        '{"threads": None} | changes',
        'changes | {"threads": None}',
        ("test_other_ranks_choose_anew",),
    ),
    Mistake(
        "--cp on resuming keeps the threads of fewer ranks",
        'getattr(kept, name) for name in ("tp", "cp", "dp", "pp"))',
        'getattr(kept, name) for name in ("tp", "dp", "pp"))',
        ("test_other_ranks_choose_anew",),
    ),
    Mistake(
        "--init-from takes the balance of experts from the other run",
        'FREE = "dropout", "balance"',
        'FREE = ("dropout",)',
        ("test_what_another_run_may_change_of_a_model_is_its_own",),
    ),
    Mistake(
        "--init-from keeps the other run's dtype",
        "checkpoint.fill(model, parts, o.dtype, device",
        "checkpoint.fill(model, parts, None, device",
        ("test_what_another_run_may_change_of_a_model_is_its_own",),
    ),
    Mistake(
        "a run resumes from a checkpoint that is no longer the newest",
        "if newest and run_folder.newest(folder) != newest:",
        "if False:",
        ("test_a_run_that_another_one_continued_meanwhile_is_not_gone_on_with",),
    ),
    Mistake(
        "a run that began before we had the lock is overwritten",
        "if folder and not newest:\n            run_folder.open_folder(folder, o.overwrite)",
        "if False:\n            run_folder.open_folder(folder, o.overwrite)",
        ("test_a_run_that_another_one_began_meanwhile_is_left_alone",),
    ),
    Mistake(
        "the lock is not taken by a process that the launcher did not start",
        "fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "pass",
        ("test_the_second_of_two_runs_says_who_holds_the_folder",),
    ),
    Mistake(
        "the lock is not released",
        "        if folder and file is not None:\n            _let_go(folder / NAME, file)\n\n",
        "        pass\n\n",
        ("test_a_finished_run_says_so_and_how_to_go_on",),
    ),
    Mistake(
        "the remaining time counts the steps before a resume as made in this run",
        "/ (step - self.start) * (self.steps - step)",
        "/ step * (self.steps - step)",
        ("test_the_time_that_is_left_is_told_by_the_steps_since_the_start",),
    ),
    Mistake(
        "the bar of a resumed run begins at 0",
        "_bar(steps, form, initial=start)",
        "_bar(steps, form)",
        ("test_the_bar_of_a_resumed_run_begins_where_it_was",),
    ),
    Mistake(
        "an epoch keeps the order of the first one that was asked for",
        "if self._latest[0] != epoch + 1:",
        "if not self._latest[0]:",
        ("test_a_batch_is_a_function_of_seed_and_step",),
    ),
    Mistake(
        "the learning rate follows the optimizer's steps, not the run's",
        "lr = recipe.lr_at(step)",
        "lr = recipe.lr_at(optimizer.steps + 1)",
        ("test_a_skipped_step_has_the_rate_of_its_number",),
    ),
    Mistake(
        "every step draws the dropout of the first",
        'random.key(recipe.seed, "step", step)',
        'random.key(recipe.seed, "step")',
        ("test_every_step_draws_its_own_dropout",),
    ),
    Mistake(
        "the norm is that of gradients that are still scaled",
        "    unscale(owned, scale.value)\n    norm = team.norm(owned)\n",
        "    norm = team.norm(owned)\n    unscale(owned, scale.value)\n",
        ("test_the_scale_changes_nothing_but_what_would_be_rounded_to_zero",),
    ),
    Mistake(
        "a scale of 1 counts as none",
        "if self.value < self.least:",
        "if self.value <= self.least:",
        ("test_the_scale_grows_shrinks_and_gives_up",),
    ),
    Mistake(
        "steps that fitted before an overflow count towards a larger scale",
        "self.good = self.good + 1 if fits else 0",
        "self.good = self.good + 1 if fits else self.good",
        ("test_the_scale_grows_shrinks_and_gives_up",),
    ),
    Mistake(
        "held-out loss: every batch weighs the same",
        "                counted = int((targets >= 0).sum())\n                sums += counted *",
        "                counted = 1\n                sums += counted *",
        ("test_evaluation_repeats_the_last_line_of_the_log",),
    ),
    Mistake(
        "the files of a new run appear first to last",
        "for name, write in files.items():\n            write(stack",
        "for name, write in reversed(files.items()):\n            write(stack",
        ("test_a_resharding_that_ends_between_two_files_leaves_no_run_that_goes_on",),
    ),
    Mistake(
        "an old run is removed before the new one is written",
        "    with ExitStack() as stack:\n        for name, write in files.items():",
        "    clear(folder)\n    with ExitStack() as stack:\n        for name, write in files.items():",
        ("test_a_full_disk_leaves_the_old_run_whole",),
    ),
    Mistake(
        "the texts after the first 64 repeat them",
        "numbers = range(first, min(first + TOGETHER, o.generate_num_sentences))",
        "numbers = range(min(TOGETHER, o.generate_num_sentences - first))",
        ("test_the_texts_are_the_same_however_many_are_written_at_once",),
    ),
    Mistake(
        "a text depends on how many are written before it",
        'random.uniform(random.key(seed, "sample", n), numbers)',
        'random.uniform(random.key(seed, "sample", n), np.arange(len(numbers)))',
        ("test_a_text_does_not_depend_on_its_neighbours",),
    ),
    Mistake(
        "keys and values are kept when the window moves",
        "seen, start, cache = 0, moved, Cache(model.config.context)",
        "start = moved",
        ("test_cached_and_uncached_logits_agree_also_past_the_context",),
    ),
    Mistake(
        "what counts is not what is predicted, but what it is predicted from",
        "return np.concatenate([[False], inside[:-1] > 0])",
        "return inside > 0",
        ("test_answers_are_what_follows_the_assistant",),
    ),
    Mistake(
        "an answer goes on after its end",
        "self.ends, self.ended = (tokenizer.start, ask.end), False",
        "self.ends, self.ended = (tokenizer.start,), False",
        ("test_a_model_of_dialogues_answers_up_to_the_end",),
    ),
    Mistake(
        "--dp auto takes a replica for each core, whatever cuts each replica",
        "most = (given or launch.cores()) // cut.ranks",
        "most = given or launch.cores()",
        ("test_dp_auto_takes_the_cores_that_divide_the_batch",),
    ),
    Mistake(
        "a container's limit is not a limit",
        "return max(1, min(seen, _allowed(limits)))",
        "return seen",
        ("test_a_container_with_less_time_than_cores_has_fewer",),
    ),
    Mistake(
        "a larger size learns as fast as a small one",
        'rate = float(f"{1e-3 * sqrt(2 / n):.3g}")',
        "rate = 1e-3",
        ("test_size_is_one_dial_and_single_options_win_over_it",),
    ),
    Mistake(
        "a file's shape wins over the size that was typed",
        "if k not in less | shape_from(typed).keys()}",
        "if k not in less}",
        ("test_a_shape_that_was_typed_wins_over_a_file_that_has_every_option",),
    ),
    Mistake(
        "what ranks print breaks the bar",
        'text = self.drawn\n        self.draw("")',
        "text = self.drawn",
        ("test_the_launcher_draws_what_a_rank_tells",),
    ),
    Mistake(
        "a streamed character comes before its last byte",
        "whole = len(text) - text.endswith(BROKEN)",
        "whole = len(text)",
        ("test_only_what_is_uncertain_waits",),
    ),
    Mistake(
        "a streamed text goes out past the beginning of its stop",
        "if text.endswith(stop[:n])), 0)",
        "if text == stop[:n]), 0)",
        ("test_only_what_is_uncertain_waits",),
    ),
    Mistake(
        "a streamed text loses the space that joins two tokens",
        "self.tail = [token]\n",
        "self.tail = []\n",
        ("test_the_pieces_are_the_text[-whitespace]",),
    ),
    Mistake(
        "a terminal's line is one column too long",
        "if self.at and self.at + len(space) + takes > self.columns:",
        "if self.at and self.at + len(space) + takes > self.columns + 1:",
        ("test_lines_are_broken_between_words",),
    ),
)
