// The pointwise part of a block in training, forward and backward, tile by tile: LayerNorm, both
// linear layers and the GELU between them, and all gradients, from rows that stay in a cache. The
// hidden layer is computed in each direction and never written to memory.

#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <optional>
#include <tuple>

#include "perceptron.h"

namespace revcol {
namespace {

// Drop path factors of all rows, null for 1.
const float* data_of(const std::optional<at::Tensor>& factors, int64_t rows) {
  return factors ? data(*factors, {rows, 1}) : nullptr;
}

// result = shortcut + factor * (branch + bias) for one row.
void finish(const Perceptron& perceptron, const float* branch, const float* shortcut, float factor,
            float* result) {
  for_each_vector(perceptron.channels, [&](int64_t c, auto n) {
    const Vec value = load(branch + c, n) + load(perceptron.second_bias + c, n);
    store(at::vec::fmadd(value, Vec(factor), load(shortcut + c, n)), result + c, n);
  });
}

// The gradient of a row before LayerNorm from that of the normalized one.
void differentiate_norm(const float* by_normalized, const float* normalized, float scale,
                        int64_t channels, float* to) {
  Vec total(0), product(0);
  for_each_vector(channels, [&](int64_t c, auto n) {
    const Vec value = load(by_normalized + c, n);
    total = total + value;
    product = at::vec::fmadd(value, load(normalized + c, n), product);
  });
  const Vec mean(sum(total) / channels), along(sum(product) / channels);
  for_each_vector(channels, [&](int64_t c, auto n) {
    const Vec centered = load(by_normalized + c, n) - mean - load(normalized + c, n) * along;
    store(centered * Vec(scale), to + c, n);
  });
}

void transpose(const float* from, int64_t rows, int64_t columns, float* to) {
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t column = 0; column < columns; ++column)
      to[column * rows + row] = from[row * columns + column];
}

void perceptron_forward(const at::Tensor& mixed, const at::Tensor& shortcut,
             const std::optional<at::Tensor>& factors, const at::Tensor& first,
             const at::Tensor& first_bias, const at::Tensor& second, const at::Tensor& second_bias,
             double eps, at::Tensor& result) {
  const int64_t rows = mixed.size(0), channels = mixed.size(1);
  const Perceptron perceptron(channels, first, first_bias, second, second_bias);
  const float* factor_of = data_of(factors, rows);
  const float *source = data(mixed, {rows, channels}), *base = data(shortcut, {rows, channels});
  data(result, {rows, channels});
  float* output = result.mutable_data_ptr<float>();
  const int64_t floats = 2 * channels + perceptron.chunk();
  for_each_tile(rows, floats, [&](int64_t start, int64_t count, float* scratch) {
    float *normalized = scratch, *branch = scratch + count * channels;
    for (int64_t row = 0; row < count; ++row) {
      float* to = normalized + row * channels;
      normalize(source + (start + row) * channels, channels, static_cast<float>(eps),
                [&](int64_t c, auto n, const Vec& value) { store(value, to + c, n); });
    }
    std::fill_n(branch, count * channels, 0.f);
    perceptron.add_branch(count, normalized, branch + count * channels, branch);
    for (int64_t row = 0; row < count; ++row) {
      const int64_t at = (start + row) * channels;
      finish(perceptron, branch + row * channels, base + at,
             factor_of ? factor_of[start + row] : 1.f, output + at);
    }
  });
}

// outer_weight is the second layer's (channels, hidden) and inner_weight the first one's
// (hidden, channels), both as above and in panels. Returns sums over all rows: g^T GELU(h)
// (channels, hidden), n^T by_h (channels, hidden), of by_h (hidden) and of g (channels).
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> perceptron_backward(
    const at::Tensor& gradient, const at::Tensor& mixed, const std::optional<at::Tensor>& factors,
    const at::Tensor& first, const at::Tensor& first_bias, const at::Tensor& second,
    const at::Tensor& second_bias, const at::Tensor& outer_weight, const at::Tensor& inner_weight,
    double eps, at::Tensor& by_mixed, const std::optional<at::Tensor>& shortcut,
    const std::optional<at::Tensor>& result) {
  const int64_t rows = mixed.size(0), channels = mixed.size(1), hidden = first_bias.numel();
  const Perceptron perceptron(channels, first, first_bias, second, second_bias);
  const float* factor_of = data_of(factors, rows);
  const float *source = data(mixed, {rows, channels}), *incoming = data(gradient, {rows, channels});
  const float* by_outer = data(outer_weight, {channels * hidden});
  const float* by_inner = data(inner_weight, {hidden * channels});
  data(by_mixed, {rows, channels});
  float* found = by_mixed.mutable_data_ptr<float>();
  TORCH_CHECK(shortcut.has_value() == result.has_value(),
              "perceptron_backward expected shortcut and result, or neither");
  const float* base = shortcut ? data(*shortcut, {rows, channels}) : nullptr;
  if (result) data(*result, {rows, channels});
  float* output = result ? result->mutable_data_ptr<float>() : nullptr;
  const float* bias = perceptron.first_bias;

  const int64_t threads = at::get_num_threads(), matrix = channels * hidden;
  const at::Tensor sums = at::zeros({threads, 2 * matrix + hidden + channels}, mixed.options());
  float* all_sums = sums.mutable_data_ptr<float>();
  const int64_t chunk = perceptron.chunk();
  const int64_t floats = 6 * channels + 2 * chunk + 1;
  for_each_tile(rows, floats, [&](int64_t start, int64_t count, float* scratch) {
    float* outer_sums = all_sums + at::get_thread_num() * sums.size(1);
    float *inner_sums = outer_sums + matrix, *hidden_sum = inner_sums + matrix;
    float* channel_sum = hidden_sum + hidden;
    float *normalized = scratch, *outer = normalized + count * channels;
    float *by_normalized = outer + count * channels, *branch = by_normalized + count * channels;
    float *outer_t = branch + count * channels, *normalized_t = outer_t + count * channels;
    float *unit = normalized_t + count * channels, *inner = unit + count * chunk;
    float* scales = inner + count * chunk;
    for (int64_t row = 0; row < count; ++row) {
      const float* from = source + (start + row) * channels;
      float* to = normalized + row * channels;
      scales[row] =
          normalize(from, channels, static_cast<float>(eps),
                    [&](int64_t c, auto n, const Vec& value) { store(value, to + c, n); });
      const Vec factor(factor_of ? factor_of[start + row] : 1.f);
      for_each_vector(channels, [&](int64_t c, auto n) {
        const Vec value = load(incoming + (start + row) * channels + c, n) * factor;
        store(value, outer + row * channels + c, n);
        store(load(channel_sum + c, n) + value, channel_sum + c, n);
      });
    }
    transpose(outer, count, channels, outer_t);
    transpose(normalized, count, channels, normalized_t);
    std::fill_n(by_normalized, count * channels, 0.f);
    if (output) std::fill_n(branch, count * channels, 0.f);
    perceptron.for_each_chunk([&](int64_t begin, int64_t end) {
      const int64_t size = end - begin;
      perceptron.multiply_into_hidden(normalized, perceptron.first, count, begin, end, unit);
      perceptron.multiply_into_hidden(outer, by_outer, count, begin, end, inner);
      // The hidden layer's memory then holds GELU's output.
      for (int64_t row = 0; row < count; ++row)
        for_each_vector(size, [&](int64_t c, auto n) {
          float *at = unit + row * size + c, *by = inner + row * size + c;
          float* total = hidden_sum + begin + c;
          const Vec x = load(at, n) + load(bias + begin + c, n), part = normal_distribution(x);
          const Vec by_hidden = load(by, n) * gelu_derivative(x, part);
          store(x * part, at, n);
          store(by_hidden, by, n);
          store(load(total, n) + by_hidden, total, n);
        });
      if (output)
        perceptron.add_from_hidden(unit, perceptron.second, count, begin, end, branch);
      multiply(channels, size, count, outer_t, count, unit, outer_sums + begin, hidden, true);
      multiply(channels, size, count, normalized_t, count, inner, inner_sums + begin, hidden, true);
      perceptron.add_from_hidden(inner, by_inner, count, begin, end, by_normalized);
    });
    for (int64_t row = 0; row < count; ++row) {
      const int64_t at = (start + row) * channels;
      if (output)
        finish(perceptron, branch + row * channels, base + at,
               factor_of ? factor_of[start + row] : 1.f, output + at);
      differentiate_norm(by_normalized + row * channels, normalized + row * channels, scales[row],
                         channels, found + at);
    }
  });
  // Each in memory of its own, for they become gradients.
  const auto total = [&](int64_t from, int64_t size) { return sums.narrow(1, from, size).sum(0); };
  return {total(0, matrix).view({channels, hidden}), total(matrix, matrix).view({channels, hidden}),
          total(2 * matrix, hidden), total(2 * matrix + hidden, channels)};
}

}  // namespace
}  // namespace revcol

TORCH_LIBRARY_FRAGMENT(revcol_backbone, library) {
  library.def(
      "perceptron_forward(Tensor mixed, Tensor shortcut, Tensor? factors, Tensor first, "
      "Tensor first_bias, Tensor second, Tensor second_bias, float eps, Tensor(a!) result) -> ()");
  library.def(
      "perceptron_backward(Tensor gradient, Tensor mixed, Tensor? factors, Tensor first, "
      "Tensor first_bias, Tensor second, Tensor second_bias, Tensor outer_weight, "
      "Tensor inner_weight, float eps, Tensor(a!) by_mixed, Tensor? shortcut, Tensor(b!)? result) "
      "-> (Tensor, Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(revcol_backbone, CPU, library) {
  library.impl("perceptron_forward", &revcol::perceptron_forward);
  library.impl("perceptron_backward", &revcol::perceptron_backward);
}
