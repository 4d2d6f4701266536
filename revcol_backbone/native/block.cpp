// A block of a deployed RevCol, tile by tile: each thread takes some rows through the depthwise
// convolution, LayerNorm, both linear layers and the GELU between them while they are in its cache.
// The hidden layer, four times as wide as the features, is never written to memory.

#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <optional>

#include "perceptron.h"

namespace revcol {
namespace {

struct Block {
  int64_t height, width, channels, kernel;
  float eps;
  const float *taps, *taps_bias;  // (kernel, kernel, channels)
  const float *alpha, *previous;  // (channels), and a map like the input; null for no shortcut
  Perceptron perceptron;

  // The depthwise convolution at one pixel.
  void convolve(const float* image, int64_t pixel, float* out) const {
    int64_t c = 0;
    for (; c + 4 * kLanes <= channels; c += 4 * kLanes) convolve<4>(image, pixel, c, All(), out);
    for (; c + kLanes <= channels; c += kLanes) convolve<1>(image, pixel, c, All(), out);
    if (c < channels) convolve<1>(image, pixel, c, channels - c, out);
  }

  // The same for so many vectors of channels from c on.
  template <int vectors, class Count>
  void convolve(const float* image, int64_t pixel, int64_t c, Count count, float* out) const {
    const int64_t margin = kernel / 2, x = pixel % width, y = pixel / width % height;
    const int64_t top = std::max(-margin, -y), bottom = std::min(margin, height - 1 - y);
    const int64_t left = std::max(-margin, -x), right = std::min(margin, width - 1 - x);
    Vec totals[vectors];
    for (int i = 0; i < vectors; ++i) totals[i] = load(taps_bias + c + i * kLanes, count);
    for (int64_t row = top; row <= bottom; ++row)
      for (int64_t column = left; column <= right; ++column) {
        const float* from = image + (pixel + row * width + column) * channels + c;
        const float* tap = taps + ((row + margin) * kernel + column + margin) * channels + c;
        for (int i = 0; i < vectors; ++i)
          totals[i] = at::vec::fmadd(load(from + i * kLanes, count), load(tap + i * kLanes, count),
                                     totals[i]);
      }
    for (int i = 0; i < vectors; ++i) store(totals[i], out + c + i * kLanes, count);
  }

  // What the second linear layer adds to, for one pixel: input + its bias + alpha * previous.
  void start(const float* input, int64_t pixel, float* out) const {
    for_each_vector(channels, [&](int64_t c, auto n) {
      const int64_t at = pixel * channels + c;
      Vec total = load(input + at, n) + load(perceptron.second_bias + c, n);
      if (alpha) total = at::vec::fmadd(load(alpha + c, n), load(previous + at, n), total);
      store(total, out + c, n);
    });
  }
};

// x and previous (B, H, W, C); taps (K, K, C); the linear layers' weights in panels. Like x.
at::Tensor packed_block(const at::Tensor& x, const at::Tensor& taps, const at::Tensor& taps_bias,
                        const at::Tensor& first, const at::Tensor& first_bias,
                        const at::Tensor& second, const at::Tensor& second_bias, double eps,
                        const std::optional<at::Tensor>& alpha,
                        const std::optional<at::Tensor>& previous) {
  TORCH_CHECK(x.dim() == 4 && taps.dim() == 3,
              "packed_block expected x of shape (B, H, W, C) and taps of shape (K, K, C)");
  TORCH_CHECK(alpha.has_value() == previous.has_value(),
              "packed_block expected alpha and previous, or neither");
  const int64_t channels = x.size(3), kernel = taps.size(0);
  const Block block{x.size(1),
                    x.size(2),
                    channels,
                    kernel,
                    static_cast<float>(eps),
                    data(taps, {kernel, kernel, channels}),
                    data(taps_bias, {channels}),
                    alpha ? data(*alpha, {channels}) : nullptr,
                    previous ? data(*previous, x.sizes()) : nullptr,
                    Perceptron(channels, first, first_bias, second, second_bias)};
  const float* input = data(x, x.sizes());
  at::Tensor result = at::empty_like(x);
  float* output = result.mutable_data_ptr<float>();
  const int64_t floats_per_row = channels + block.perceptron.chunk();
  for_each_tile(x.size(0) * x.size(1) * x.size(2), floats_per_row,
                [&](int64_t start, int64_t rows, float* scratch) {
                  for (int64_t row = 0; row < rows; ++row) {
                    const int64_t pixel = start + row;
                    float* mixed = scratch + row * channels;
                    block.convolve(input, pixel, mixed);
                    normalize(mixed, channels, block.eps,
                              [&](int64_t c, auto n, const Vec& value) {
                                store(value, mixed + c, n);
                              });
                    block.start(input, pixel, output + pixel * channels);
                  }
                  block.perceptron.add_branch(rows, scratch, scratch + rows * channels,
                                              output + start * channels);
                });
  return result;
}

}  // namespace
}  // namespace revcol

TORCH_LIBRARY_FRAGMENT(revcol_backbone, library) {
  library.def(
      "packed_block(Tensor x, Tensor taps, Tensor taps_bias, Tensor first, Tensor first_bias, "
      "Tensor second, Tensor second_bias, float eps, Tensor? alpha, Tensor? previous) -> Tensor");
}

TORCH_LIBRARY_IMPL(revcol_backbone, CPU, library) {
  library.impl("packed_block", &revcol::packed_block);
}
