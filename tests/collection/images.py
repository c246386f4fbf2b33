"""Models of images: classifiers, segmentation, detection, augmentation, resizing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tests.collection.cases import Case, function, layers, network, spec, weights

L = keras.layers


def augmented() -> keras.Model:
    x = inputs = keras.Input((16, 16, 3))
    for layer in (
        L.RandomFlip(),
        L.RandomRotation(0.2),
        L.RandomZoom(0.1),
        L.RandomContrast(0.2),
        L.RandomBrightness(0.2),
        L.RandomTranslation(0.1, 0.1),
        L.CenterCrop(12, 12),
        L.Resizing(8, 8),
        L.Conv2D(2, 3),
    ):
        x = layer(x)
    return keras.Model(inputs, x)


def augmented_at_inference(folder: Path) -> None:
    keras.utils.set_random_seed(1)
    model, archive = augmented(), keras.export.ExportArchive()
    archive.track(model)
    spec_x = tf.TensorSpec([None, 16, 16, 3], tf.float32, name="image")
    archive.add_endpoint("serve", lambda image: model(image, training=False), input_signature=[spec_x])
    archive.write_out(str(folder), verbose=False)


def residual() -> keras.Model:
    x = inputs = keras.Input((16, 16, 3))
    x = L.Conv2D(8, 3, padding="same", use_bias=False)(x)
    x = L.BatchNormalization()(x)
    y = L.ReLU()(x)
    y = L.Conv2D(8, 3, padding="same")(y)
    x = L.Add()([x, y])
    x = L.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, L.Dense(5, activation="softmax")(x))


def u_net() -> keras.Model:
    inputs = keras.Input((None, None, 3))
    a = L.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    b = L.Conv2D(8, 3, padding="same", activation="relu")(L.MaxPooling2D(padding="same")(a))
    up = L.Conv2DTranspose(4, 2, strides=2, padding="same")(b)
    up = L.Concatenate()([up, L.Conv2DTranspose(2, 3, strides=2, padding="same")(b)])
    return keras.Model(inputs, L.Conv2D(3, 1)(up))


def depthwise() -> keras.Model:
    x = inputs = keras.Input((20, 20, 3))
    x = L.Conv2D(8, 3, strides=2, padding="same")(x)
    x = L.Activation("hard_silu")(x)
    x = L.DepthwiseConv2D(3, padding="same")(x)
    s = L.GlobalAveragePooling2D(keepdims=True)(x)
    s = L.Conv2D(8, 1, activation="hard_sigmoid")(L.Conv2D(4, 1, activation="relu")(s))
    x = L.Multiply()([x, s])
    x = L.SeparableConv2D(6, 3, dilation_rate=2, padding="same", activation="relu6")(x)
    return keras.Model(inputs, L.Flatten()(x))


def conv_next() -> keras.Model:
    x = inputs = keras.Input((16, 16, 3))
    x = L.LayerNormalization(epsilon=1e-6)(L.Conv2D(8, 4, strides=4)(x))
    y = L.DepthwiseConv2D(7, padding="same")(x)
    y = L.Dense(16, activation="gelu")(L.LayerNormalization(epsilon=1e-6)(y))
    return keras.Model(inputs, L.Dense(4)(L.GlobalAveragePooling2D()(L.Add()([x, L.Dense(8)(y)]))))


def detection(boxes: tf.Tensor, scores: tf.Tensor) -> dict[str, tf.Tensor]:
    kept = tf.image.non_max_suppression(boxes, scores, 5, iou_threshold=0.5, score_threshold=0.2)
    return {"boxes": tf.gather(boxes, kept), "scores": tf.gather(scores, kept), "kept": kept}


def combined_detection(boxes: tf.Tensor, scores: tf.Tensor) -> dict[str, tf.Tensor]:
    found = tf.image.combined_non_max_suppression(
        boxes[:, :, None, :], scores, 4, 6, iou_threshold=0.5, score_threshold=0.1
    )
    return {"boxes": found[0], "scores": found[1], "classes": found[2], "valid": found[3]}


def resized(method: str, antialias: bool = False, preserve: bool = False) -> Any:
    return function(
        lambda image: tf.image.resize(image, [9, 13], method, antialias=antialias, preserve_aspect_ratio=preserve),
        image=spec(None, 16, 20, 3),
    )


def space_to_batch(x: tf.Tensor) -> tf.Tensor:
    return tf.nn.convolution(x, weights(3, 3, 3, 4), padding="SAME", dilations=[2, 3])


def conv(strides: int = 1, padding: str = "SAME", dilations: int = 1, groups: int = 1) -> Any:
    kernel = weights(3, 3, 4 // groups, 8)
    return function(lambda x: tf.nn.conv2d(x, kernel, strides, padding, dilations=dilations), x=spec(None, 11, 12, 4))


def transposed(x: tf.Tensor) -> tf.Tensor:
    shape = tf.shape(x)
    return tf.nn.conv2d_transpose(x, weights(3, 3, 5, 4), [shape[0], shape[1] * 2, shape[2] * 2, 5], 2)


def projective(image: tf.Tensor) -> tf.Tensor:
    transform = tf.tile([[0.9, 0.1, 1.0, -0.1, 1.1, -2.0, 0.001, 0.0]], [tf.shape(image)[0], 1])
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image,
        transforms=transform,
        output_shape=[12, 14],
        fill_value=0.5,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )


def crops(image: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    return tf.image.crop_and_resize(image, boxes, tf.zeros(tf.shape(boxes)[:1], tf.int32), [4, 5])


def preprocessed(image: tf.Tensor) -> tf.Tensor:
    x = tf.image.resize(tf.cast(image, tf.float32), [12, 12]) / 127.5 - 1.0
    return tf.nn.conv2d(x, weights(3, 3, 3, 4), 2, "SAME")


IMAGES = [
    Case(
        "mnist",
        "images",
        layers(
            (28, 28, 1),
            lambda: L.Rescaling(1 / 255),
            lambda: L.Conv2D(4, 5, activation="relu"),
            L.MaxPooling2D,
            L.Flatten,
            lambda: L.Dropout(0.5),
            lambda: L.Dense(10, activation="softmax"),
        ),
    ),
    Case("residual", "images", network(residual)),
    Case("u_net", "images", network(u_net), lengths=(8, 12)),
    Case("depthwise and squeeze", "images", network(depthwise)),
    Case("convnext block", "images", network(conv_next)),
    Case(
        "mobilenet v3",
        "images",
        network(
            lambda: keras.applications.MobileNetV3Small(
                (32, 32, 3), 0.35, minimalistic=False, weights=None, classes=5, dropout_rate=0
            )
        ),
        is_large=True,
    ),
    Case(
        "efficientnet v2",
        "images",
        network(lambda: keras.applications.EfficientNetV2B0(weights=None, input_shape=(32, 32, 3), classes=4)),
        is_large=True,
    ),
    Case("group norm", "images", layers((8, 8, 12), lambda: L.GroupNormalization(4), lambda: L.Conv2D(4, 1))),
    Case("instance norm", "images", layers((8, 8, 6), lambda: L.GroupNormalization(-1), lambda: L.ReLU(0.2))),
    Case("unit norm", "images", layers((4, 4, 6), L.UnitNormalization, L.GlobalMaxPooling2D)),
    Case(
        "spectral norm",
        "images",
        layers((8, 8, 3), lambda: L.SpectralNormalization(L.Conv2D(4, 3)), L.GlobalAveragePooling2D),
    ),
    Case(
        "pools",
        "images",
        layers((13, 11, 3), lambda: L.MaxPooling2D(3, 2, "same"), lambda: L.AveragePooling2D(2, 1, "same"), L.Flatten),
    ),
    Case(
        "pools of volumes",
        "images",
        layers(
            (6, 7, 8, 2), lambda: L.Conv3D(3, 3, padding="same"), lambda: L.MaxPooling3D(2), L.GlobalAveragePooling3D
        ),
    ),
    Case("transposed volumes", "images", layers((3, 4, 5, 2), lambda: L.Conv3DTranspose(3, 3, 2, "same"))),
    Case(
        "padding and cropping",
        "images",
        layers(
            (8, 9, 3),
            lambda: L.ZeroPadding2D(((1, 2), (0, 3))),
            lambda: L.Cropping2D(1),
            lambda: L.UpSampling2D(2),
            lambda: L.UpSampling2D(3, interpolation="bilinear"),
        ),
    ),
    Case("augmentation at inference", "augmentation", augmented_at_inference),
    # Keras's own export of these layers draws at inference, too.
    Case("augmentation as exported", "augmentation", network(augmented), refused="changes the variable seed_generator"),
    Case(
        "normalization layer",
        "images",
        layers(
            (8, 8, 3), lambda: L.Normalization(mean=[0.4, 0.5, 0.6], variance=[0.1, 0.2, 0.3]), lambda: L.Conv2D(2, 3)
        ),
    ),
    Case(
        "dynamic size",
        "images",
        layers(
            (None, None, 3),
            lambda: L.Conv2D(4, 3, strides=2, padding="same"),
            L.GlobalAveragePooling2D,
            lambda: L.Dense(3),
        ),
        lengths=(7, 12),
    ),
    Case(
        "nms",
        "detection",
        function(detection, boxes=spec(None, 4), scores=spec(None)),
        ranges={"boxes": (0, 1), "scores": (0, 1)},
        is_quick=True,
    ),
    Case(
        "combined nms",
        "detection",
        function(combined_detection, boxes=spec(None, 10, 4), scores=spec(None, 10, 3)),
        ranges={"boxes": (0, 1), "scores": (0, 1)},
    ),
    Case(
        "crop and resize",
        "detection",
        function(crops, image=spec(1, 12, 12, 3), boxes=spec(None, 4)),
        ranges={"boxes": (0, 1)},
    ),
    Case("resize bilinear", "resize", resized("bilinear")),
    Case("resize bicubic", "resize", resized("bicubic")),
    Case("resize nearest", "resize", resized("nearest")),
    Case("resize area", "resize", resized("area")),
    Case("resize lanczos", "resize", resized("lanczos3")),
    Case("resize antialiased", "resize", resized("bilinear", antialias=True)),
    Case("resize antialiased bicubic", "resize", resized("bicubic", antialias=True)),
    Case(
        "resize v1 corners",
        "resize",
        function(lambda x: tf.compat.v1.image.resize_bilinear(x, [7, 9], align_corners=True), x=spec(None, 5, 6, 2)),
    ),
    Case(
        "resize v1",
        "resize",
        function(lambda x: tf.compat.v1.image.resize_nearest_neighbor(x, [7, 9]), x=spec(None, 5, 6, 2)),
    ),
    Case("keras bicubic", "resize", layers((10, 12, 3), lambda: L.Resizing(7, 15, interpolation="bicubic"))),
    Case(
        "resize to the input's half",
        "resize",
        function(lambda x: tf.image.resize(x, tf.shape(x)[1:3] // 2), x=spec(None, None, None, 3)),
        lengths=(6, 9),
    ),
    Case(
        "resize with pad",
        "resize",
        function(lambda x: tf.image.resize_with_pad(x, 12, 12), x=spec(None, None, None, 3)),
        lengths=(6, 9),
    ),
    Case(
        "uint8 photo",
        "images",
        function(preprocessed, image=spec(None, None, None, 3, dtype=tf.uint8)),
        lengths=(9, 16),
    ),
    Case("conv strided", "convolutions", conv(strides=2)),
    Case("conv dilated", "convolutions", conv(dilations=2), is_quick=True),
    Case("conv valid", "convolutions", conv(strides=3, padding="VALID")),
    Case("conv grouped", "convolutions", conv(groups=2)),
    Case("conv transposed", "convolutions", function(transposed, x=spec(None, 5, 6, 4))),
    Case("conv by space to batch", "convolutions", function(space_to_batch, x=spec(None, 12, 12, 3))),
    Case(
        "depthwise dilated",
        "convolutions",
        function(
            lambda x: tf.nn.depthwise_conv2d(x, weights(3, 3, 4, 2), [1, 1, 1, 1], "SAME", dilations=[2, 2]),
            x=spec(None, 9, 9, 4),
        ),
    ),
    Case(
        "conv of sequences",
        "convolutions",
        layers(
            (20, 3),
            lambda: L.Conv1D(4, 3, padding="causal", dilation_rate=2),
            lambda: L.Conv1DTranspose(3, 3, strides=2),
            L.GlobalMaxPooling1D,
        ),
    ),
    Case(
        "dilation2d",
        "convolutions",
        function(
            lambda x: tf.nn.dilation2d(x, weights(3, 3, 3), [1, 1, 1, 1], "SAME", "NHWC", [1, 1, 1, 1]),
            x=spec(None, 8, 8, 3),
        ),
    ),
    Case(
        "hard swish",
        "convolutions",
        function(
            lambda x: tf.nn.conv2d(x * tf.nn.relu6(x + 3.0) / 6.0, weights(3, 3, 2, 2), 2, "SAME"),
            x=spec(None, 8, 8, 2),
        ),
    ),
    Case(
        "patches",
        "images",
        function(
            lambda x: tf.image.extract_patches(x, [1, 3, 3, 1], [1, 2, 2, 1], [1, 1, 1, 1], "SAME"),
            x=spec(None, 8, 9, 2),
        ),
    ),
    Case(
        "depth to space",
        "images",
        function(
            lambda x: {"up": tf.nn.depth_to_space(x, 2), "down": tf.nn.space_to_depth(x, 2)}, x=spec(None, 4, 6, 8)
        ),
    ),
    Case(
        "hsv",
        "images",
        function(
            lambda x: {"hsv": tf.image.rgb_to_hsv(x), "back": tf.image.hsv_to_rgb(tf.image.rgb_to_hsv(x))},
            x=spec(None, 6, 6, 3),
        ),
        ranges={"x": (0, 1)},
    ),
    Case(
        "colours",
        "images",
        function(lambda x: tf.image.adjust_hue(tf.image.adjust_saturation(x, 1.3), 0.1), x=spec(None, 6, 6, 3)),
        ranges={"x": (0, 1)},
    ),
    Case(
        "grey and contrast",
        "images",
        function(
            lambda x: tf.image.per_image_standardization(tf.image.adjust_contrast(tf.image.rgb_to_grayscale(x), 1.5)),
            x=spec(None, 6, 6, 3),
        ),
        ranges={"x": (0, 1)},
    ),
    Case(
        "flips",
        "images",
        function(lambda x: tf.image.rot90(tf.image.flip_left_right(tf.image.flip_up_down(x))), x=spec(None, 5, 6, 3)),
    ),
    Case(
        "sobel and ssim",
        "images",
        function(
            lambda x, y: {"edges": tf.image.sobel_edges(x), "psnr": tf.image.psnr(x, y, 1.0)},
            x=spec(None, 8, 8, 1),
            y=spec(None, 8, 8, 1),
        ),
        ranges={"x": (0, 1), "y": (0, 1)},
    ),
    Case(
        "ssim",
        "images",
        function(lambda x, y: tf.image.ssim(x, y, 1.0), x=spec(None, 16, 16, 1), y=spec(None, 16, 16, 1)),
        ranges={"x": (0, 1), "y": (0, 1)},
    ),
    Case("projective transform", "augmentation", function(projective, image=spec(None, 10, 10, 2))),
    Case(
        "max pool with argmax",
        "images",
        function(
            lambda x: dict(zip(("max", "at"), tf.nn.max_pool_with_argmax(x, 2, 2, "VALID"), strict=True)),
            x=spec(None, 6, 6, 2),
        ),
    ),
    Case(
        "mirror pad",
        "images",
        function(
            lambda x: {
                "reflect": tf.pad(x, [[0, 0], [2, 1], [1, 2], [0, 0]], "REFLECT"),
                "symmetric": tf.pad(x, [[0, 0], [2, 1], [1, 2], [0, 0]], "SYMMETRIC"),
            },
            x=spec(None, 5, 6, 2),
        ),
    ),
    Case(
        "local response norm",
        "images",
        function(lambda x: tf.nn.local_response_normalization(x, 2, 1.0, 0.1, 0.5), x=spec(None, 4, 4, 8)),
    ),
    Case(
        "mask at argmax",
        "images",
        function(
            lambda x: tf.cast(tf.argmax(tf.nn.conv2d(x, weights(1, 1, 3, 4), 1, "SAME"), -1), tf.uint8),
            x=spec(None, None, None, 3),
        ),
    ),
    Case(
        "image in float",
        "images",
        function(
            lambda x: tf.saturate_cast(tf.image.convert_image_dtype(x, tf.float32) * 255.0, tf.uint8),
            x=spec(None, 4, 4, 3, dtype=tf.uint8),
        ),
    ),
]
_ = np
