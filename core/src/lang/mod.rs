//! Languages over claim values: match and prove with one automaton. Knows no mapping.

mod automaton;
pub mod pattern;
pub mod space;
