"""Mistakes in plain layers, in what they say of themselves, and in an optimizer of its own parameters."""

from tests.planted import Mistake

NETS = (
    Mistake(
        "what was drawn is drawn again at first use",
        "                if not parameter.drawn:\n                    parameter.draw(0, xp=xp)\n",
        "                parameter.draw(0, xp=xp)\n",
        ("test_what_was_drawn_is_not_drawn_again",),
    ),
    Mistake(
        "a layer of a model draws itself",
        "self.shares, self.plain = shares, False\n        for _, part",
        "self.shares = shares\n        for _, part",
        ("test_a_model_says_to_draw_it",),
    ),
    Mistake(
        "a part that comes later is not drawn",
        "        if isinstance(value, Parameter | Layer | list):\n            self.ready = False\n",
        "",
        ("test_a_part_that_comes_later_is_named_and_drawn",),
    ),
    Mistake(
        "layers that were used alone lose parameters when they meet",
        'p.name = "" if anew else p.name',
        "p.name = p.name",
        ("test_layers_used_alone_keep_all_their_parameters_together",),
    ),
    Mistake(
        "a plain linear layer starts as small as a GPT's",
        "std = max(d_in, 1) ** -0.5 if std is None else std",
        "std = 0.02 if std is None else std",
        ("test_a_linear_layer_keeps_the_size_of_what_passes_through",),
    ),
    Mistake(
        "the rows of a cut layer are checked against the whole width",
        "        self.expect(x, self.weight.shape[0])\n        y = ",
        "        self.expect(x, self.weight.whole_shape[0])\n        y = ",
        ("test_a_wrong_width_is_named_under_tensor_parallelism",),
    ),
    Mistake(
        "all dropouts of a net drop the same entries",
        "            if not self.name:\n                self.named()\n",
        "",
        ("test_dropout_in_a_net_needs_a_place",),
    ),
    Mistake(
        "zero_grad forgets nothing",
        'adds to them."""\n        for p in self.parameters:\n            p.grad = None\n',
        'adds to them."""\n',
        ("test_weights_step_along_the_last_gradient_alone",),
    ),
    Mistake(
        "the optimizer's own lr is not used",
        "lr = self.lr if lr is None else lr",
        "lr = 1e-3 if lr is None else lr",
        ("test_the_two_ways_to_give_parameters_are_one",),
    ),
    Mistake(
        "two parameters of one name share their means",
        "if p.name in (other.name for other in every[:i]):",
        "if False:",
        ("test_what_an_optimizer_refuses",),
    ),
    Mistake(
        "the parameters of tied layers count twice",
        "new = [p for p in inside if id(p) not in seen]",
        "new = inside",
        ("test_the_table_of_a_net_of_ones_own",),
    ),
)
