//! Byte DFA: build, match, intersect, empty?, shortest witness.
