//! local issuer
