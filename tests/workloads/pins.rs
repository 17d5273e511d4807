//! Empty: the manifest beside it is all that matters.
