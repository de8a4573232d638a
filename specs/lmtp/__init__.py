"""LMTP (RFC 2033) between our client and a user's server: what each of them may say."""
