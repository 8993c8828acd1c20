//! {placeholders} under a target's character and length rules.
