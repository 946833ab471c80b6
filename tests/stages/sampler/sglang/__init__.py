"""A stand-in for SGLang that samples: the torch engine's own server under SGLang's launcher and flags."""
