"""Operations that no graph and no host step computes, by kind, and what the owner of a model can do about each kind."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """Operations of a kind.

    name      for the documentation
    pattern   of their names
    cure      what to do
    """

    name: str
    pattern: str
    cure: str

    def has(self, operation: str) -> bool:
        """Whether an operation is of this kind."""
        return re.fullmatch(self.pattern, operation) is not None


_TRAINING = (
    r"(Resource|Sparse)?(Sparse)?Apply\w+|ResourceApply\w+|\w+Grad(ient)?(s)?(V\d|GradV2|Grad|WithArgmax|A|Boxes|Image"
    r"|WithShape)?\w*|\w*Backprop\w*|Sdca\w+|BoostedTrees\w+|IsBoostedTrees\w+|\w*CandidateSampler|ComputeAccidentalHits"
    r"|\w*Accumulator\w*|SymbolicGradient|PreventGradient|KMC2\w+|KmeansPlusPlus\w+|CTCLoss(V2)?|LoadAndRemapMatrix"
    r"|GenerateVocabRemapping|\w*XlaSparse\w+|CudnnRNN\w*Params\w*"
)

KINDS = (
    Kind(
        "Python",
        "(Eager)?PyFunc(Stateless)?",
        "rebuild with TensorFlow operations in place of tf.py_function, which no server runs",
    ),
    Kind(
        "checks in loops and branches",
        "Assert|CheckNumerics(V2)?|EnsureShape|CheckPinned|Abort",
        "rebuild without the check, if its inputs are checked before",
    ),
    Kind(
        "state",
        r"(Resource)?(Count|Scatter)\w*|Assign\w*|Variable(V2|Shape)?|VarHandleOp|VarIsInitializedOp|IsVariable\w+|Read"
        r"Variable\w*|TemporaryVariable|DestroyTemporaryVariable|DestroyResourceOp|Rng\w+|Mutex\w*|ConsumeMutexLock|"
        r"\w*StridedSliceAssign|TensorStridedSliceUpdate|Inplace\w+|Get(Session)\w+|DeleteSession\w+|ResourceGather\w*|"
        r"DisableCopyOnRead|GuaranteeConst|Empty|DeepCopy|Ref\w+",
        "rebuild with a signature that changes no variable",
    ),
    Kind(
        "random numbers that are not seeded",
        r"Random\w+|Stateful\w*(Normal|Uniform|FullInt|Int|Binomial)(V2)?|Multinomial|\w*TruncatedNormal(V2)?|"
        r"Stateless(Multinomial|Random\w+|Shuffle|Sample\w+)|NonDeterministicInts|\w*RandomSeedGenerator|"
        r"\w*SeedGenerator|SobolSample|SampleDistorted\w+",
        "rebuild with the noise as an input, or drawn by tf.random.stateless_uniform or stateless_normal",
    ),
    Kind("training", _TRAINING, "rebuild with a signature that predicts, without the training step"),
    Kind(
        "loops of TensorFlow 1",
        "Switch|Merge|Enter|Exit|NextIteration|LoopCond|ControlTrigger|Stack(V2|Pop|Push|Close)\\w*|Stack",
        "rebuild with is_training fixed to false, or export it with TensorFlow 2",
    ),
    Kind(
        "lookup tables that change",
        r"LookupTable\w+|\w*HashTable\w*|InitializeTable\w*|TensorMap\w+|EmptyTensorMap",
        "rebuild with a table that no signature changes, or with ids in place of words as its input",
    ),
    Kind(
        "text",
        r"String\w+|\w*Regex\w*|AsString|Unicode\w+|UnsortedSegmentJoin|Ragged(Count|Cross|Fill)\w*|Sparse(Cross)\w*|"
        r"EditDistance|Fingerprint|Substr|ReduceJoin|Sharded\w+|MatchingFiles",
        "rebuild with the text steps outside of the signature",
    ),
    Kind(
        "encoded data",
        r"Decode\w+|Parse\w+|Encode\w+|ExtractJpegShape|Serialize\w+|Deserialize\w+|DenseCountSparseOutput|"
        r"Experimental(Parse)\w+|CompressElement|UncompressElement",
        "rebuild with decoded numbers as its input",
    ),
    Kind(
        "files, queues and data sets",
        r"\w*Dataset\w*|\w*Iterator\w*|\w*Queue\w*|\w*Reader\w*|(Read|Write)File|RecordInput|Barrier\w*|(Ordered)?Map"
        r"(Clear|IncompleteSize|Peek|Size|Stage|Unstage\w*)|(Un)?[Ss]tage\w*|Stage\w*|Save\w*|Restore\w*|MergeV2\w+|"
        r"DistributedSave|\w*MemoryCache|Optional\w+|Batch|Unbatch|BatchFunction|(In|Out)feed\w+|"
        r"FileSystem\w+|ImmutableConst|WindowOp|GetOptions|GetElementAtIndex|\w*ThreadPoolHandle|"
        r"Take\w*Sparse\w*|Add\w*Sparse\w*|ComputeBatchSize|DummyIterationCounter|\w*StatsAggregator\w*|RandomIndexShuffle|ModelDataset",
        "rebuild with the data as its input",
    ),
    Kind(
        "other machines and processors",
        r"Collective\w+|Nccl\w+|Xla\w+|\w*TPU\w*|(Send|Recv)|\w*SparseCore\w*|Cross\w*Sum|AllToAll|Prelinearize\w*|"
        r"Get(Minibatch|Stats)\w+|StoreMinibatch\w+|RemoteCall|GlobalIterId|SyncDevice|WorkerHeartbeat|DeviceIndex|"
        r"ConvertTo\w*Coo\w*|Copy(Host)?|CudnnRNN\w*|\w*RNNCanonical\w+|ReadVariableXla\w+",
        "rebuild for the CPU of one machine",
    ),
    Kind(
        "messages and summaries",
        r"Print(V2)?|Timestamp|Debug\w+|\w*Summary\w*|ImportEvent",
        "rebuild without it",
    ),
    Kind(
        "matrices",
        r"(Batch)?(Self)\w+|(Batch)?(Svd|Qr|Lu|Eig|Cholesky|MatrixSolve|MatrixSolveLs|MatrixTriangularSolve|"
        r"MatrixInverse|MatrixDeterminant)|Matrix(Exponential|Logarithm|SquareRoot|SolveLs)|Tridiagonal\w+|Banded\w+|"
        r"Cholesky|MatrixTriangularSolve|BatchMatrix\w+|\w*CSRSparseMatrix\w*|SparseMatrix\w+|Einsum",
        "rebuild with the matrix computed before, as a variable",
    ),
    Kind(
        "special functions",
        r"Bessel\w+|Betainc|Dawsn|Expint|Fresnel\w+|Igamma\w*|Polygamma|Spence|Zeta|NextAfter|PopulationCount|Bitcast|"
        r"Ndtri|Erfinv|Lgamma|Digamma",
        "rebuild with a table or a polynomial",
    ),
    Kind(
        "quantised numbers",
        r"Quantize\w*|Quantized\w+|Dequantize|Requantiz\w+|Uniform(De|Re)?[Qq]uant\w+",
        "rebuild with numbers in float32, or with tf.quantization.fake_quant_*",
    ),
    Kind(
        "sparse tensors",
        r"Sparse\w+|DenseToSparse\w+|SetSize|\w*SparseTensor\w*",
        "rebuild with dense tensors, or with their values and positions as inputs",
    ),
    Kind(
        "images and audio",
        r"Draw\w+|ExtractGlimpse\w*|ExtractVolumePatches|Fractional\w+|Generate\w+|NonMaxSuppression\w*|Nearest\w+|"
        r"AudioSpectrogram|Mfcc|Fused\w+|AdjustContrast|ImageProjective\w+|(I|R)*FFT\w*|BatchI?FFT\w*|"
        r"CombinedNonMaxSuppression|Conv\w*|ResizeAndPad\w*|BatchNormWithGlobal\w+|BoostedTrees\w*",
        "rebuild with other operations",
    ),
    Kind(
        "recurrent kernels",
        r"BlockLSTM\w*|GRUBlockCell|LSTMBlockCell|CTCBeamSearchDecoder",
        "rebuild with keras.layers.LSTM or GRU",
    ),
    Kind(
        "lists and shapes",
        r"TensorArray\w*|TensorList\w*|EmptyTensorList|Unique\w+|UnravelIndex|ListDiff|Broadcast\w+|ConcatOffset|"
        r"DataFormat\w+|ParallelConcat|Segment\w+V2|SpaceToBatch|BatchToSpace|Reverse|ToBool|FakeParam|"
        r"CompositeTensor\w+|ConjugateTranspose|IsotonicRegression|ApproxTopK|MapDefun|For|Case|StatelessCase|Fact|"
        r"Mod|ScatterNdNonAliasingAdd|\w*PartitionedCall|StatefulPartitionedCall|\w*Lists?",
        "rebuild with other operations",
    ),
)


def kind_of(operation: str) -> Kind | None:
    """The kind of an operation that cannot be converted; None if it is of none."""
    return next((kind for kind in KINDS if kind.has(operation)), None)
