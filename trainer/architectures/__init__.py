"""The article's networks: encoder, mappers and decoder, dense as published and masked, and the five models of them."""
