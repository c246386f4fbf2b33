"""Models of sequences: recurrent layers, transformers, audio, ragged batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from tests.collection.cases import Case, function, layers, network, spec, weights

L = keras.layers


def masked(layer: Callable[[], Any]) -> Any:
    def make() -> keras.Model:
        ids = keras.Input((12,), dtype="int32", name="ids")
        x = L.Embedding(20, 6, mask_zero=True)(ids)
        return keras.Model(ids, L.Dense(2)(layer()(x)))

    return network(make)


def encoder() -> keras.Model:
    ids = keras.Input((10,), dtype="int32", name="ids")
    x = L.Embedding(30, 16)(ids) + L.Embedding(10, 16)(ops.arange(10))
    y = L.MultiHeadAttention(2, 8)(x, x, attention_mask=ops.not_equal(ids, 0)[:, None, :])
    x = L.LayerNormalization()(x + y)
    x = L.LayerNormalization()(x + L.Dense(16)(L.Dense(32, activation="gelu")(x)))
    return keras.Model(ids, L.Dense(3, activation="softmax")(L.GlobalAveragePooling1D()(x)))


class Positions(L.Layer):  # type: ignore[misc]
    """Adds a vector for each place in a text of any length."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return x + tf.constant(weights(64, 16))[: tf.shape(x)[1]]


def decoder() -> keras.Model:
    ids = keras.Input((None,), dtype="int32", name="ids")
    x = Positions()(L.Embedding(30, 16)(ids))
    y = L.MultiHeadAttention(2, 8)(x, x, use_causal_mask=True)
    x = L.LayerNormalization()(x + y)
    return keras.Model(ids, L.Dense(30)(x))


def grouped_query() -> keras.Model:
    x = inputs = keras.Input((9, 16))
    x = L.GroupQueryAttention(8, 4, 2)(x, x)
    return keras.Model(inputs, x)


def additive() -> keras.Model:
    query, value = keras.Input((5, 8), name="query"), keras.Input((7, 8), name="value")
    return keras.Model(
        [query, value], L.Concatenate()([L.Attention()([query, value]), L.AdditiveAttention()([query, value])])
    )


def encoder_decoder() -> keras.Model:
    source, target = keras.Input((6, 4), name="source"), keras.Input((5, 3), name="target")
    _, h, c = L.LSTM(7, return_state=True)(source)
    x = L.LSTM(7, return_sequences=True)(target, initial_state=[h, c])
    return keras.Model([source, target], L.TimeDistributed(L.Dense(4, activation="softmax"))(x))


def stacked() -> keras.Model:
    x = inputs = keras.Input((None, 3))
    x = L.RNN([keras.layers.LSTMCell(5), keras.layers.GRUCell(4)], return_sequences=True)(x)
    return keras.Model(inputs, L.SimpleRNN(3)(x))


def power(audio: tf.Tensor) -> tf.Tensor:
    return tf.abs(tf.signal.stft(audio, 64, 32, 64))


def mel(audio: tf.Tensor) -> tf.Tensor:
    matrix = tf.signal.linear_to_mel_weight_matrix(12, 33, 8000, 80.0, 3800.0)
    return tf.math.log(tf.matmul(power(audio) ** 2, matrix) + 1e-6)


def mfcc(audio: tf.Tensor) -> tf.Tensor:
    return tf.signal.mfccs_from_log_mel_spectrograms(mel(audio))[..., :6]


def generated(start: tf.Tensor) -> tf.Tensor:
    table, step = weights(11, 6), weights(6, 11, seed=1)
    ids = tf.TensorArray(tf.int32, 5)
    token = start
    for n in tf.range(5):
        token = tf.argmax(tf.gather(table, token) @ step, -1, output_type=tf.int32)
        ids = ids.write(n, token)
    return tf.transpose(ids.stack())


def early_stop(x: tf.Tensor) -> dict[str, tf.Tensor]:
    def more(n: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        return tf.logical_and(n < 20, tf.reduce_max(tf.abs(x)) > 0.01)

    n, x = tf.while_loop(more, lambda n, x: (n + 1, x * 0.5), [tf.constant(0), x])
    return {"steps": n, "x": x}


def ragged_mean(values: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.RaggedTensor.from_row_lengths(values, lengths, validate=False), axis=1)


def ragged_from_ids(ids: tf.Tensor) -> tf.Tensor:
    ragged = tf.RaggedTensor.from_tensor(ids, padding=0)
    return tf.reduce_sum(tf.gather(weights(20, 4), ragged), axis=1)


def beam(scores: tf.Tensor) -> dict[str, tf.Tensor]:
    best, at = tf.math.top_k(tf.reshape(scores, [tf.shape(scores)[0], -1]), 3)
    return {"best": best, "row": at // 5, "column": at % 5}


SEQUENCES = [
    Case("lstm", "sequences", layers((9, 4), lambda: L.LSTM(6), lambda: L.Dense(2))),
    Case("gru reset after", "sequences", layers((9, 4), lambda: L.GRU(6, return_sequences=True))),
    Case("gru reset before", "sequences", layers((9, 4), lambda: L.GRU(6, reset_after=False))),
    Case("simple rnn", "sequences", layers((9, 4), lambda: L.SimpleRNN(6, activation="relu"))),
    Case("bilstm of words", "sequences", masked(lambda: L.Bidirectional(L.LSTM(5)))),
    Case("masked lstm", "sequences", masked(lambda: L.LSTM(5))),
    Case("masked gru", "sequences", masked(lambda: L.GRU(5))),
    Case("masked gru reset before", "sequences", masked(lambda: L.GRU(5, reset_after=False))),
    Case("masked rnn", "sequences", masked(lambda: L.SimpleRNN(5))),
    Case("masked mean", "sequences", masked(lambda: L.GlobalAveragePooling1D())),
    Case(
        "bigru of any length",
        "sequences",
        layers((None, 3), lambda: L.Bidirectional(L.GRU(4, return_sequences=True)), L.GlobalMaxPooling1D),
    ),
    Case("masking layer", "sequences", layers((7, 3), lambda: L.Masking(0.0), lambda: L.LSTM(4))),
    Case("conv lstm", "sequences", layers((4, 6, 6, 2), lambda: L.ConvLSTM2D(3, 3, padding="same"))),
    Case("conv lstm of lines", "sequences", layers((4, 8, 2), lambda: L.ConvLSTM1D(3, 3, return_sequences=True))),
    Case(
        "time distributed",
        "sequences",
        layers(
            (5, 8, 8, 1),
            lambda: L.TimeDistributed(L.Conv2D(2, 3)),
            lambda: L.TimeDistributed(L.Flatten()),
            lambda: L.LSTM(4),
        ),
    ),
    Case("stacked rnn", "sequences", network(stacked)),
    Case("encoder decoder", "sequences", network(encoder_decoder)),
    Case(
        "lstm states",
        "sequences",
        network(lambda: keras.Model(i := keras.Input((6, 3)), L.LSTM(4, return_state=True, return_sequences=True)(i))),
    ),
    Case("unrolled gru", "sequences", layers((4, 3), lambda: L.GRU(4, unroll=True))),
    Case("transformer encoder", "transformers", network(encoder)),
    Case("causal decoder", "transformers", network(decoder)),
    Case("grouped query attention", "transformers", network(grouped_query)),
    Case("attention layers", "transformers", network(additive)),
    Case(
        "greedy generation",
        "transformers",
        function(generated, start=spec(None, dtype=tf.int32)),
        ranges={"start": (0, 10)},
    ),
    Case(
        "einsum",
        "transformers",
        function(lambda q, k: tf.einsum("bqhd,bkhd->bhqk", q, k), q=spec(None, 4, 2, 3), k=spec(None, 5, 2, 3)),
    ),
    Case("beam", "transformers", function(beam, scores=spec(None, 4, 5))),
    Case("early stop", "sequences", function(early_stop, x=spec(None))),
    Case("stft", "audio", function(power, audio=spec(None, 400))),
    Case("mel spectrogram", "audio", function(mel, audio=spec(None, 400)), is_quick=True),
    Case("mel of any length", "audio", function(mel, audio=spec(None, None)), lengths=(200, 333)),
    Case("mfcc", "audio", function(mfcc, audio=spec(None, 400))),
    Case("rfft", "audio", function(lambda x: tf.abs(tf.signal.rfft(x)), x=spec(None, 30))),
    Case(
        "irfft",
        "audio",
        function(
            lambda x: tf.signal.irfft(tf.signal.rfft(x) * tf.cast(weights(17) ** 2, tf.complex64)), x=spec(None, 32)
        ),
    ),
    Case(
        "inverse stft",
        "audio",
        function(lambda x: tf.signal.inverse_stft(tf.signal.stft(x, 32, 16), 32, 16), x=spec(None, 160)),
    ),
    Case("fft2d", "audio", function(lambda x: tf.abs(tf.signal.fft2d(tf.cast(x, tf.complex64))), x=spec(None, 8, 8))),
    Case("dct", "audio", function(lambda x: tf.signal.dct(x, 2, norm="ortho"), x=spec(None, 16))),
    Case(
        "keras mel",
        "audio",
        layers((800,), lambda: L.MelSpectrogram(fft_length=64, sequence_stride=32, num_mel_bins=8, sampling_rate=4000)),
    ),
    Case("frames", "audio", function(lambda x: tf.signal.frame(x, 8, 4, pad_end=True), x=spec(None, 50))),
    Case("complex out", "audio", function(lambda x: tf.signal.rfft(x), x=spec(None, 16)), refused="complex64"),
    Case(
        "ragged mean",
        "ragged",
        function(ragged_mean, values=spec(6), lengths=spec(3, dtype=tf.int64)),
        ranges={"lengths": (2, 2)},
    ),
    Case(
        "ragged inside", "ragged", function(ragged_from_ids, ids=spec(None, 6, dtype=tf.int32)), ranges={"ids": (0, 19)}
    ),
    Case(
        "segment sums",
        "ragged",
        function(
            lambda x, ids: tf.math.unsorted_segment_sum(x, ids, 4), x=spec(None, 3), ids=spec(None, dtype=tf.int32)
        ),
        ranges={"ids": (0, 3)},
    ),
    Case(
        "sequence mask",
        "ragged",
        function(
            lambda x, n: x * tf.sequence_mask(n, 6, tf.float32)[..., None],
            x=spec(None, 6, 2),
            n=spec(None, dtype=tf.int32),
        ),
        ranges={"n": (0, 6)},
    ),
    Case(
        "reverse sequence",
        "ragged",
        function(lambda x, n: tf.reverse_sequence(x, n, 1), x=spec(None, 6, 2), n=spec(None, dtype=tf.int32)),
        ranges={"n": (0, 6)},
    ),
    Case(
        "cumulative",
        "sequences",
        function(
            lambda x: {
                "sum": tf.cumsum(x, 1),
                "back": tf.cumsum(x, 1, exclusive=True, reverse=True),
                "product": tf.math.cumprod(x, 1),
                "log": tf.math.cumulative_logsumexp(x, 1),
            },
            x=spec(None, 6),
        ),
    ),
    Case(
        "kalman scan",
        "sequences",
        function(
            lambda x: tf.transpose(tf.scan(lambda a, b: 0.9 * a + 0.1 * b, tf.transpose(x), tf.zeros_like(x[:, 0]))),
            x=spec(None, 7),
        ),
    ),
    Case(
        "map over rows",
        "sequences",
        function(lambda x: tf.map_fn(lambda row: row / (1.0 + tf.reduce_sum(tf.abs(row))), x), x=spec(None, 4)),
    ),
    Case(
        "ctc greedy",
        "sequences",
        function(
            lambda x: tf.sparse.to_dense(
                tf.nn.ctc_greedy_decoder(tf.transpose(x, [1, 0, 2]), tf.fill([tf.shape(x)[0]], 6))[0][0]
            ),
            x=spec(None, 6, 4),
        ),
    ),
]
