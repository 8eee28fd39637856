//! Who may use how many bytes, decided before anyone does.
