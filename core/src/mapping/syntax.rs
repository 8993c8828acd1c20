//! Spanned, error-recovering trees of the folder's files.
