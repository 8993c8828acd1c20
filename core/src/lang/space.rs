//! Boxes: claim → set with an absent point; intersection and witness.
