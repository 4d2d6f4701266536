// The two linear layers of a block and the GELU between them, over rows that stay in a cache.

#pragma once

#include "gelu.h"

namespace revcol {

// Columns of the hidden layer that exist at a time.
constexpr int64_t kHidden = 256;

// The weights, with LayerNorm's affine part and the layer scale in them; matrices in panels.
struct Perceptron {
  int64_t channels, hidden;
  const float *first, *first_bias;    // (channels, hidden)
  const float *second, *second_bias;  // (hidden, channels)

  Perceptron(int64_t channels, const at::Tensor& first, const at::Tensor& first_bias,
             const at::Tensor& second, const at::Tensor& second_bias)
      : channels(channels),
        hidden(first_bias.numel()),
        first(data(first, {channels * hidden})),
        first_bias(data(first_bias, {hidden})),
        second(data(second, {hidden * channels})),
        second_bias(data(second_bias, {channels})) {}

  // How many columns of the hidden layer need memory.
  int64_t chunk() const { return std::min(kHidden, hidden); }

  // Calls run(begin, end) for the columns of the hidden layer that exist at a time.
  template <class Run>
  void for_each_chunk(const Run& run) const {
    for (int64_t begin = 0; begin < hidden; begin += kHidden)
      run(begin, std::min(begin + kHidden, hidden));
  }

  // Columns `begin` to `end` of from * matrix, which is (channels, hidden).
  void multiply_into_hidden(const float* from, const float* matrix, int64_t rows, int64_t begin,
                            int64_t end, float* to) const {
    for (int64_t column = begin; column < end; column += kPanel)
      multiply(rows, std::min(kPanel, end - column), channels, from, channels,
               matrix + column * channels, to + column - begin, end - begin, false);
  }

  // Adds to the rows what these columns give through a matrix that is (hidden, channels).
  void add_from_hidden(const float* from, const float* matrix, int64_t rows, int64_t begin,
                       int64_t end, float* to) const {
    for (int64_t column = 0; column < channels; column += kPanel) {
      const int64_t count = std::min(kPanel, channels - column);
      multiply(rows, count, end - begin, from, end - begin,
               matrix + column * hidden + begin * count, to + column, channels, true);
    }
  }

  // out += second(gelu(first(from) + first_bias)); scratch has memory for rows * chunk().
  void add_branch(int64_t rows, const float* from, float* scratch, float* out) const {
    for_each_chunk([&](int64_t begin, int64_t end) {
      multiply_into_hidden(from, first, rows, begin, end, scratch);
      for (int64_t row = 0; row < rows; ++row)
        for_each_vector(end - begin, [&](int64_t c, auto n) {
          float* at = scratch + row * (end - begin) + c;
          store(gelu(load(at, n) + load(first_bias + begin + c, n)), at, n);
        });
      add_from_hidden(scratch, second, rows, begin, end, out);
    });
  }
};

}  // namespace revcol
