//! The tier book under random histories, against a plain reading of its documentation.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_precision_loss)]

use std::collections::{BTreeMap, BTreeSet};

use lightmem_core::rows::Id;
use lightmem_core::tiers::{Event, Heat, RingLimits, TierBook, TierPolicy, Tracked};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

const RING: RingLimits = RingLimits { turns: 3, tokens: 9 };
const POLICY: TierPolicy =
    TierPolicy { half_life: 50, capacity: [usize::MAX, usize::MAX, 6, 2], promote_heat: 1.5, summarise_turns: 2 };

fn id(number: u8) -> Id {
    u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c834).to_be_bytes()
}

fn tracked() -> impl Strategy<Value = Tracked> {
    let numbers = (0_u8..24, 0_u64..40, 0_u32..6, 1_u8..4, 0_u32..3);
    let session = proptest::sample::select(vec!["", "x", "y", "ü"]);
    (numbers, session, 0_i64..200, 0.0..3.0_f64, 0.0..=1.0_f64, any::<[bool; 3]>(), proptest::bool::weighted(0.2))
        .prop_map(|((number, order, token_count, tier, support), session, at, heat, confidence, flags, is_pinned)| {
            Tracked {
                id: id(number),
                session: session.to_owned(),
                order,
                token_count,
                is_turn: flags[0],
                tier,
                occurred_at: at,
                heat: Heat { value: heat, since: at },
                confidence,
                support,
                is_pinned,
                is_archived: flags[1] && flags[2],
                is_consolidated: flags[2],
            }
        })
}

fn events() -> impl Strategy<Value = Event> {
    let ids = || (0_u8..24).prop_map(id);
    prop_oneof![
        8 => tracked().prop_map(Event::Added),
        4 => (ids(), 0_i64..300, 0_u32..4).prop_map(|(id, at, count)| Event::Accessed { id, at, count }),
        1 => ids().prop_map(Event::Pinned),
        1 => ids().prop_map(Event::Unpinned),
        1 => (ids(), 0_u32..4).prop_map(|(id, count)| Event::Supported { id, count }),
        1 => ids().prop_map(Event::Consolidated),
        1 => ids().prop_map(Event::Archived),
        1 => ids().prop_map(Event::Restored),
        2 => ids().prop_map(Event::Removed),
        1 => (0_i64..400).prop_map(Event::Passed),
    ]
}

fn replayed(events: &[Event]) -> TierBook {
    let mut book = TierBook::new(POLICY, RING);
    book.replay(events.to_vec()).unwrap();
    book
}

/// What the memories are after a history, told one by one.
fn expected(events: &[Event]) -> (BTreeMap<Id, Tracked>, i64) {
    let mut held: BTreeMap<Id, Tracked> = BTreeMap::new();
    let mut now = i64::MIN;
    for event in events {
        let mut with = |id: &Id, change: &dyn Fn(&mut Tracked)| held.get_mut(id).map_or((), change);
        match event {
            Event::Added(memory) => {
                held.insert(memory.id, memory.clone());
                now = now.max(memory.heat.since);
            }
            Event::Accessed { id, at, count } => {
                with(id, &|m| {
                    // One access after the other, as they are said to be spread.
                    let (start, span) = (m.heat.since, (at - m.heat.since).max(0) as f64);
                    let decayed = |value: f64, micros: f64| value * (-micros / POLICY.half_life as f64).exp2();
                    let step = span / f64::from((*count).max(1));
                    let mut value = m.heat.value;
                    for _ in 0..*count {
                        value = decayed(value, step) + 1.0;
                    }
                    if *count == 0 {
                        value = decayed(value, span);
                    }
                    m.heat = Heat { value, since: start.max(*at) };
                });
                now = now.max(*at);
            }
            Event::Pinned(id) => with(id, &|m| m.is_pinned = true),
            Event::Unpinned(id) => with(id, &|m| m.is_pinned = false),
            Event::Supported { id, count } => with(id, &|m| m.support = *count),
            Event::Consolidated(id) => with(id, &|m| m.is_consolidated = true),
            Event::Archived(id) => with(id, &|m| m.is_archived = true),
            Event::Restored(id) => with(id, &|m| m.is_archived = false),
            Event::Removed(id) => {
                held.remove(id);
            }
            Event::Passed(at) => now = now.max(*at),
        }
    }
    (held, now)
}

fn expected_ring(held: &BTreeMap<Id, Tracked>, session: &str) -> Vec<Id> {
    let mut turns: Vec<&Tracked> = held.values().filter(|m| m.is_turn && m.session == session).collect();
    turns.sort_by_key(|m| (m.order, m.id));
    let tokens = |turns: &[&Tracked]| turns.iter().map(|m| u64::from(m.token_count)).sum::<u64>();
    while turns.len() > RING.turns || (turns.len() > 1 && tokens(&turns) > RING.tokens) {
        turns.remove(0);
    }
    turns.into_iter().map(|m| m.id).collect()
}

fn sessions(held: &BTreeMap<Id, Tracked>) -> BTreeSet<&str> {
    held.values().map(|m| m.session.as_str()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_and_order_is_kept(events in vec(events(), 0..120)) {
        let book = replayed(&events);
        let (held, now) = expected(&events);
        for session in sessions(&held) {
            prop_assert_eq!(book.session_ring(session), expected_ring(&held, session));
        }
        prop_assert!(book.session_ring("unknown").is_empty());
        for number in 0..24 {
            let expected = held.get(&id(number)).map(|m| m.heat.at(now, POLICY.half_life));
            match (book.heat(&id(number)), expected) {
                (Some(actual), Some(expected)) => prop_assert!((actual - expected).abs() < 1e-9, "{actual} {expected}"),
                (actual, expected) => prop_assert_eq!(actual, expected),
            }
        }
        let counts = book.counts();
        for tier in 0..4 {
            let of = |is_archived| held.values().filter(|m| m.tier == tier && m.is_archived == is_archived).count();
            let count = counts.get(&tier).copied().unwrap_or_default();
            prop_assert_eq!((count.active, count.archived), (of(false), of(true)));
        }
    }

    #[test]
    fn bounds_hold_once_decisions_are_carried_out(events in vec(events(), 0..120)) {
        let mut book = replayed(&events);
        let (mut held, _) = expected(&events);
        let decided = book.decide();
        book.replay(decided.archive.iter().map(|id| Event::Archived(*id))).unwrap();
        for id in &decided.archive {
            let memory = held.get_mut(id).unwrap();
            prop_assert!(!memory.is_archived && !memory.is_pinned);
            memory.is_archived = true;
        }
        prop_assert_eq!(book.decide().archive, Vec::<Id>::new());
        let rings: BTreeSet<Id> = sessions(&held).into_iter().flat_map(|session| expected_ring(&held, session)).collect();
        for (tier, capacity) in [(2, 6), (3, 2)] {
            let active = held.values().filter(|m| m.tier == tier && !m.is_archived);
            let (kept, other): (Vec<_>, Vec<_>) = active.partition(|m| m.is_pinned || rings.contains(&m.id));
            prop_assert!(kept.len() + other.len() <= capacity || other.is_empty());
            prop_assert_eq!(book.counts().get(&tier).map_or(0, |count| count.active), kept.len() + other.len());
        }
        for session in sessions(&held) {
            let ring = book.session_ring(session);
            prop_assert_eq!(&ring, &expected_ring(&held, session));
            prop_assert!(ring.len() <= RING.turns);
        }
    }

    #[test]
    fn a_history_split_anywhere_gives_the_same_book(events in vec(events(), 0..120), split in any::<Index>()) {
        let whole = replayed(&events);
        prop_assert_eq!(&replayed(&events), &whole);
        let (before, after) = events.split_at(split.index(events.len() + 1));
        let mut resumed = replayed(&replayed(before).history());
        resumed.replay(after.to_vec()).unwrap();
        prop_assert_eq!(&resumed, &whole);
        prop_assert_eq!(resumed.decide(), whole.decide());
    }

    #[test]
    fn summaries_and_promotions_are_those_due(events in vec(events(), 0..120)) {
        let (held, now) = expected(&events);
        let decided = replayed(&events).decide();
        let due: Vec<&str> = sessions(&held).into_iter().filter(|session| {
            let ring = expected_ring(&held, session);
            let waits = |m: &&Tracked| {
                m.session == *session && m.tier == 2 && m.is_turn && !m.is_archived && !m.is_consolidated
                    && !ring.contains(&m.id)
            };
            held.values().filter(waits).count() >= POLICY.summarise_turns
        }).collect();
        prop_assert_eq!(decided.summarise, due);
        let heat = |id: &Id| held[id].heat.at(now, POLICY.half_life);
        prop_assert!(decided.promote.windows(2).all(|pair| heat(&pair[0]) >= heat(&pair[1]) - 1e-9));
        for memory in held.values() {
            let may = memory.tier == 2 && !memory.is_archived && !memory.is_consolidated;
            let margin = heat(&memory.id) - POLICY.promote_heat;
            // Within rounding of the threshold either answer is right.
            if margin.abs() > 1e-9 {
                prop_assert_eq!(decided.promote.contains(&memory.id), may && margin > 0.0);
            }
        }
    }
}

#[test]
fn a_wrong_event_changes_nothing() {
    let mut book = TierBook::new(POLICY, RING);
    let good = Tracked {
        id: id(1),
        session: String::new(),
        order: 1,
        token_count: 1,
        is_turn: true,
        tier: 2,
        occurred_at: 1,
        heat: Heat::default(),
        confidence: 1.0,
        support: 0,
        is_pinned: false,
        is_archived: false,
        is_consolidated: false,
    };
    for bad in [
        Tracked { tier: 32, ..good.clone() },
        Tracked { confidence: f64::NAN, ..good.clone() },
        Tracked { heat: Heat { value: f64::INFINITY, since: 0 }, ..good.clone() },
    ] {
        assert!(book.replay([Event::Added(good.clone()), Event::Added(bad)]).is_err());
        assert_eq!(book, TierBook::new(POLICY, RING));
    }
}
