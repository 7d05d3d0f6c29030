"""What the student is taught: the teacher's order with its distances, and what is known to answer."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

ABSENT = -1e9
TEMPERATURE = 2.0
"""Softens both sides of the listwise loss, so that the order among those that don't answer counts too."""

LISTWISE, LABELLED, BINARY, IMITATION = 0.7, 1.5, 0.3, 4.0
"""Weights of the losses. MRR of lists held out, 125 questions of chats and 988 of FriendsQA, after 250 further
steps of one student: with the first three (1.0, 0.0, 0.02)
chats .654 and FriendsQA .573, (1.0, 0.5, 0.3) .712 and .594, these .743 and .620; the teacher .691 and .576. What is known to
answer teaches what the teacher doesn't know."""


def loss(logits: jax.Array, scores: jax.Array, labels: jax.Array, present: jax.Array) -> jax.Array:
    """One number of a batch of lists.

    - listwise: cross-entropy between the softmax of the teacher's logits and of the student's (ListNet, Cao et al. 2007, as
      a distillation loss; Hofstaetter et al. 2020 give the margins for pairs alone);
    - labelled: the share of the softmax that answers get, where there are any;
    - binary: whether each answers, for logits that mean the same whatever the query.

    Args:
        logits, scores, labels, present: (lists, passages): the student's, the teacher's, 1 where it answers, 1 where there is
            a passage.
    """
    taught = jax.nn.softmax(jnp.where(present > 0, scores / TEMPERATURE, ABSENT), axis=-1)
    learnt = jax.nn.log_softmax(jnp.where(present > 0, logits / TEMPERATURE, ABSENT), axis=-1)
    listwise = -(taught * jnp.where(present > 0, learnt, 0.0)).sum(axis=-1).mean() * TEMPERATURE**2

    answerable = labels.sum(axis=-1) > 0
    sharp = jnp.where(present > 0, logits, ABSENT)
    of_answers = jax.nn.logsumexp(jnp.where(labels > 0, logits, ABSENT), axis=-1)
    missed = jnp.where(answerable, jax.nn.logsumexp(sharp, axis=-1) - of_answers, 0.0)
    labelled = missed.sum() / jnp.maximum(answerable.sum(), 1)

    binary: jax.Array = (optax.sigmoid_binary_cross_entropy(logits, labels) * present).sum() / present.sum()
    total: jax.Array = LISTWISE * listwise + LABELLED * labelled + BINARY * binary
    return total


def imitation(states: Sequence[jax.Array], taught: Sequence[jax.Array], mask: jax.Array) -> jax.Array:
    """How far the student's states are from the teacher's, mean over layers; 1 is as far as nothing at all.

    As TinyBERT (Jiao et al. 2020) is taught; the student is as wide as its teacher, so nothing is projected. A pair has one
    logit, and thousands of numbers of states.

    Args:
        states, taught: Of as many layers, (n, length, width) or (n, 1, width) each.
        mask: (n, length), 1 where there is a word piece.
    """
    far = []
    for one, other in zip(states, taught, strict=True):
        there = mask[:, : one.shape[1], None]
        far.append((jnp.square(one - other) * there).sum() / (jnp.square(other) * there).sum())
    return jnp.stack(far).mean()
