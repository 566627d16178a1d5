//! What is remembered from sweep to sweep, for as long as somebody asks for it.

use std::collections::HashMap;
use std::hash::Hash;

/// Two generations: what is asked for moves to the young one, and what nobody asks for goes with the old one.
pub struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    most: usize,
}

impl<K: Eq + Hash + Clone, V: Clone> Generations<K, V> {
    /// Keeps so many in each generation at most.
    pub fn of(most: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), most }
    }

    pub fn find(&mut self, asked: &K) -> Option<V> {
        if let Some(value) = self.young.get(asked) {
            return Some(value.clone());
        }
        let (key, value) = self.old.remove_entry(asked)?;
        self.note(key, value.clone());
        Some(value)
    }

    pub fn note(&mut self, asked: K, value: V) {
        if self.young.len() >= self.most {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(asked, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_again_stays_and_what_nobody_asks_for_goes() {
        let mut memory = Generations::of(10);
        (0..=10).for_each(|number| memory.note(number, number));
        assert_eq!(memory.find(&0), Some(0));
        (11..20).for_each(|number| memory.note(number, number));
        assert_eq!(memory.find(&0), Some(0));
        assert_eq!(memory.find(&1), None);
        assert!(memory.young.len() + memory.old.len() <= 20);
    }
}
