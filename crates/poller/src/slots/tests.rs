//! One thread's table against a map, and many threads filling while one recycles.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;

use super::*;

#[test]
fn places_are_dense() {
    let mut expected = (0..3).flat_map(|page| (0..page_len(page)).map(move |at| (page, at)));
    for index in 0..448 {
        assert_eq!(place(index), expected.next());
    }
    assert_eq!(expected.next(), None);
    assert!(place(MAX_SLOTS - 1).is_some());
    assert_eq!(place(u32::MAX), None);
}

#[test]
fn a_recycled_slot_drops_late_tokens() {
    let (slots, mut batch) = slots(8);
    let old = slots.insert(1).unwrap();
    assert!(slots.remove(old));
    assert!(!slots.remove(old), "removed once");
    assert_eq!(batch.get(old), None);
    assert_eq!((batch.end(), batch.end()), (1, 0));
    let new = slots.insert(2).unwrap();
    assert_eq!(new.slot(), old.slot());
    assert_ne!(new, old);
    assert!(!slots.remove(old), "a late remove does not hit the next tenant");
    assert_eq!((batch.get(old), batch.get(new)), (None, Some(&2)));
}

#[test]
fn strange_tokens_find_nothing() {
    let (slots, batch) = slots(100);
    slots.insert(1).unwrap();
    for raw in [1, 99, 1 << 32, u64::MAX, u64::from(u32::MAX), u64::from(MAX_SLOTS)] {
        let token = Token::from_raw(raw);
        assert_eq!(batch.get(token), None);
        assert!(!slots.remove(token));
    }
}

#[test]
fn full_until_the_batch_ends() {
    let (slots, mut batch) = slots(2);
    let first = slots.insert('a').unwrap();
    slots.insert('b').unwrap();
    assert_eq!(slots.insert('c'), Err(Full('c')));
    slots.remove(first);
    assert_eq!(slots.insert('c'), Err(Full('c')), "events of the batch may be about the slot");
    assert_eq!(slots.len(), 2);
    batch.end();
    assert_eq!(slots.len(), 1);
    assert!(slots.insert('c').is_ok());
}

#[test]
fn each_value_is_dropped_once() {
    let value = Arc::new(());
    let (slots, mut batch) = slots(1000);
    let tokens: Vec<_> = (0..500).map(|_| slots.insert(Arc::clone(&value)).unwrap()).collect();
    for token in &tokens[..200] {
        slots.remove(*token);
    }
    assert_eq!(Arc::strong_count(&value), 501, "values live until the batch ends");
    assert_eq!(batch.end(), 200);
    assert_eq!(Arc::strong_count(&value), 301);
    for token in &tokens[200..300] {
        slots.remove(*token);
    }
    drop(batch);
    assert_eq!(Arc::strong_count(&value), 301);
    drop(slots);
    assert_eq!(Arc::strong_count(&value), 1);
}

#[test]
fn random_operations_against_a_map() {
    let (slots, mut batch) = slots(300);
    let mut map = HashMap::new();
    let mut gone = Vec::new();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let rounds = if cfg!(miri) { 2_000 } else { 100_000 };
    for step in 0..rounds {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let pick = |len: usize| (seed >> 32) as usize % len.max(1);
        match seed % 8 {
            0..=3 => match slots.insert(step) {
                Ok(token) => assert!(map.insert(token, step).is_none()),
                Err(Full(value)) => assert_eq!((value, slots.len()), (step, 300)),
            },
            4..=6 => {
                let token = map.keys().copied().nth(pick(map.len()));
                if let Some(token) = token {
                    map.remove(&token);
                    assert!(slots.remove(token));
                    gone.push(token);
                }
            }
            _ => {
                batch.end();
                assert_eq!(slots.len(), map.len());
            }
        }
        if let Some(token) = gone.get(pick(gone.len())) {
            assert_eq!(batch.get(*token), None);
        }
        if let Some((token, value)) = map.iter().next() {
            assert_eq!(batch.get(*token), Some(value));
        }
    }
}

#[test]
fn many_threads_fill_while_one_recycles() {
    let rounds = if cfg!(miri) { 50 } else { 20_000 };
    let (slots, mut batch) = slots::<Box<u64>>(64);
    let (send, recv) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        for thread in 0..3_u64 {
            let (slots, send) = (slots.clone(), send.clone());
            scope.spawn(move || {
                for round in 0..rounds {
                    let mut value = Box::new(thread << 32 | round);
                    let expected = *value;
                    let token = loop {
                        match slots.insert(value) {
                            Ok(token) => break token,
                            Err(Full(refused)) => value = refused,
                        }
                        thread::yield_now();
                    };
                    send.send((token, expected)).unwrap();
                    if round % 2 == 0 {
                        slots.remove(token);
                    }
                }
            });
        }
        drop(send);
        for (token, expected) in recv {
            match batch.get(token) {
                Some(value) => assert_eq!(**value, expected),
                None => assert_eq!(expected % 2, 0, "only even rounds remove their own"),
            }
            if expected % 2 == 1 {
                assert!(slots.remove(token));
            }
            batch.end();
        }
    });
    batch.end();
    assert!(slots.is_empty());
}
