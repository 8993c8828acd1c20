//! Two mappings that can give one role to one job are a load error, decided exactly over boxes.
