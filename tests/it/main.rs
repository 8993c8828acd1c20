//! Everything about the repository, the command line and HTTP: one binary.

mod tidy;
