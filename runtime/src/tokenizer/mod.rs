//! Text to tokens and back; one file per family, one for chat templates.
