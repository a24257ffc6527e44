"""AttnGAN's RNN_ENCODER (code/model.py): states of a bidirectional LSTM over a caption's words.

Parameters bear the names of `text_encoder*.pth`.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class TextEncoder(nn.Module):
    """Numbers of words to a vector a word and one a caption.

    Args:
        vocabulary: how many words there are.
        word_dim: width of a word before the LSTM.
        dim: of the vectors that come out, half of it each way.

    Raises:
        ValueError: `dim` is odd.
    """

    def __init__(self, vocabulary: int, word_dim: int = 300, dim: int = 256):
        super().__init__()
        if dim % 2:
            raise ValueError(f"the two directions of an LSTM cannot share {dim} dimensions")
        self.encoder = nn.Embedding(vocabulary, word_dim)
        self.rnn = nn.LSTM(word_dim, dim // 2, batch_first=True, bidirectional=True)
        nn.init.uniform_(self.encoder.weight, -0.1, 0.1)

    def forward(self, ids: Tensor, lengths: Tensor, kept: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """ids (B, L) integers, lengths (B,) from 1 to L → words (B, L, dim), zeros after each last; sentence (B, dim).

        The sentence is what the LSTM ends with, ahead and back. Captions need not be sorted by length.

        Args:
            kept: (B, L, word_dim) bool, half of it true: dropout of the words' elements, in training. Whoever trains
                draws it, so that a training is a function of its seed.
        """
        embedded = self.encoder(ids.long())
        if kept is not None:
            embedded = 2 * embedded * kept
        packed = pack_padded_sequence(embedded, lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, (final, _) = self.rnn(packed)
        words, _ = pad_packed_sequence(states, batch_first=True, total_length=ids.shape[1])
        return words, torch.cat([final[0], final[1]], 1)
