// The involution and its two transposes, a few rows of one group at a time. Their source is copied
// once into rows with zeros around them, split by the stride, so that every position of the windows
// is a plain offset. Sums stay in registers: nothing is unfolded, and each function is one parallel
// region.

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "tiles.h"

namespace revcol {
namespace {

// Floats of the copied rows: half a megabyte, for second-level caches.
constexpr int64_t kCopied = 131072;

// Calls run(start, size) for consecutive parts of 0 .. count, whose sizes the compiler knows.
template <int... sizes, class Run>
void for_each_part(int64_t count, const Run& run) {
  int64_t start = 0;
  const auto take = [&](auto size) {
    for (; start + size <= count; start += size) run(start, size);
  };
  (take(std::integral_constant<int, sizes>()), ...);
}

struct Sizes {
  int64_t groups, channels;  // of all images; of one group
  int64_t height, width;     // of the input
  int64_t out_height, out_width, kernel, stride;
  std::vector<int64_t> offsets;  // of each position of a window from the first, in copied rows

  Sizes(at::IntArrayRef input, at::IntArrayRef kernels, int64_t stride)
      : groups(kernels[0] * kernels[1]),
        channels(input[1] / kernels[1]),
        height(input[2]),
        width(input[3]),
        out_height(kernels[3]),
        out_width(kernels[4]),
        kernel(std::lround(std::sqrt(static_cast<double>(kernels[2])))),
        stride(stride) {
    for (int64_t row = 0; row < kernel; ++row)
      for (int64_t column = 0; column < kernel; ++column)
        offsets.push_back(row * copied_length() + column % stride * phase_length() +
                          column / stride);
  }

  int64_t margin() const { return kernel / 2; }
  int64_t positions() const { return kernel * kernel; }

  // Where the input's rows are copied to: for every channel and row, `stride` rows of this length.
  int64_t phase_length() const { return out_width + (kernel - 1) / stride; }
  int64_t copied_length() const { return stride * phase_length(); }
  int64_t copied_rows(int64_t out_rows) const { return (out_rows - 1) * stride + kernel; }

  // Copies what `rows` output rows from `top` on see of one group.
  void copy(const float* input, int64_t top, int64_t rows, float* to) const {
    for (int64_t channel = 0; channel < channels; ++channel)
      for (int64_t row = 0; row < copied_rows(rows); ++row, to += copied_length()) {
        const int64_t y = top * stride + row - margin();
        std::fill_n(to, copied_length(), 0.f);
        if (y < 0 || y >= height) continue;
        const float* from = input + (channel * height + y) * width;
        for (int64_t phase = 0; phase < stride; ++phase) {
          const int64_t shift = phase - margin();
          const int64_t begin = shift < 0 ? at::divup(-shift, stride) : 0;
          const int64_t end = std::min(phase_length(), at::divup(width - shift, stride));
          float* target = to + phase * phase_length();
          for (int64_t i = begin; i < end; ++i) target[i] = from[i * stride + shift];
        }
      }
  }
};

// Calls run(group, first row, rows, scratch) for so many rows that their copies fit the cache.
template <class Run>
void for_each_rows(int64_t groups, int64_t all_rows, int64_t floats_per_row, int64_t floats,
                   const Run& run) {
  if (groups == 0 || all_rows == 0) return;
  const int64_t share = at::divup(groups * all_rows, at::get_num_threads());
  const int64_t fitting = (kCopied - floats) / floats_per_row;
  const int64_t rows = std::max<int64_t>(std::min({fitting, share, all_rows}), 1);
  const int64_t parts = at::divup(all_rows, rows);
  at::parallel_for(0, groups * parts, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> scratch(floats + rows * floats_per_row);
    for (int64_t part = begin; part < end; ++part) {
      const int64_t top = part % parts * rows;
      run(part / parts, top, std::min(rows, all_rows - top), scratch.data());
    }
  });
}

// Calls run(group, row, seen, channel length) for every output row of a group: `seen` is where its
// first window begins in a copy of the input, whose channels are so far apart.
template <class Run>
void for_each_copied_row(const Sizes& sizes, const float* input, const Run& run) {
  const int64_t row_length = sizes.channels * sizes.copied_length();
  for_each_rows(sizes.groups, sizes.out_height, row_length * sizes.stride,
                row_length * sizes.kernel,
                [&](int64_t group, int64_t top, int64_t rows, float* scratch) {
                  const int64_t pixels = sizes.channels * sizes.height * sizes.width;
                  sizes.copy(input + group * pixels, top, rows, scratch);
                  const int64_t channel_length = sizes.copied_rows(rows) * sizes.copied_length();
                  for (int64_t row = 0; row < rows; ++row)
                    run(group, top + row, scratch + row * sizes.stride * sizes.copied_length(),
                        channel_length);
                });
}

// x (B, C, H, W), kernel (B, G, K * K, h, w): the result is (B, C, h, w).
at::Tensor aggregate(const at::Tensor& x, const at::Tensor& kernel, int64_t stride) {
  const Sizes sizes(x.sizes(), kernel.sizes(), stride);
  const float *input = data(x, x.sizes()), *weights = data(kernel, kernel.sizes());
  at::Tensor result =
      at::empty({x.size(0), x.size(1), sizes.out_height, sizes.out_width}, x.options());
  float* output = result.mutable_data_ptr<float>();
  const int64_t pixels = sizes.out_height * sizes.out_width;
  for_each_copied_row(sizes, input, [&](int64_t group, int64_t row, const float* copied,
                                        int64_t channel_length) {
    const float* weight_row = weights + group * sizes.positions() * pixels + row * sizes.out_width;
    float* out_row = output + group * sizes.channels * pixels + row * sizes.out_width;
    for_each_vector(sizes.out_width, [&](int64_t column, auto n) {
      for_each_part<8, 1>(sizes.channels, [&](int64_t channel, auto count) {
        Vec totals[count];
        std::fill_n(totals, +count, Vec(0));
        const float* from = copied + channel * channel_length + column;
        for (int64_t position = 0; position < sizes.positions(); ++position) {
          const Vec weight = load(weight_row + position * pixels + column, n);
          const float* seen = from + sizes.offsets[position];
          for (int i = 0; i < count; ++i)
            totals[i] = at::vec::fmadd(load(seen + i * channel_length, n), weight, totals[i]);
        }
        for (int i = 0; i < count; ++i)
          store(totals[i], out_row + (channel + i) * pixels + column, n);
      });
    });
  });
  return result;
}

// The transpose in the kernels: grad (B, C, h, w), x (B, C, H, W).
at::Tensor kernel_gradient(const at::Tensor& grad, const at::Tensor& x,
                           at::IntArrayRef kernel_shape, int64_t stride) {
  const Sizes sizes(x.sizes(), kernel_shape, stride);
  const float *input = data(x, x.sizes()), *gradient = data(grad, grad.sizes());
  at::Tensor result = at::empty(kernel_shape, grad.options());
  float* output = result.mutable_data_ptr<float>();
  const int64_t pixels = sizes.out_height * sizes.out_width;
  for_each_copied_row(sizes, input, [&](int64_t group, int64_t row, const float* copied,
                                        int64_t channel_length) {
    const float* grad_row = gradient + group * sizes.channels * pixels + row * sizes.out_width;
    float* out_row = output + group * sizes.positions() * pixels + row * sizes.out_width;
    for_each_vector(sizes.out_width, [&](int64_t column, auto n) {
      for (int64_t window_row = 0; window_row < sizes.kernel; ++window_row)
        for_each_part<7, 3, 1>(sizes.kernel, [&](int64_t first, auto count) {
          const int64_t position = window_row * sizes.kernel + first;
          int64_t offsets[count];
          std::copy_n(sizes.offsets.data() + position, +count, offsets);
          Vec totals[count];
          std::fill_n(totals, +count, Vec(0));
          for (int64_t channel = 0; channel < sizes.channels; ++channel) {
            const Vec value = load(grad_row + channel * pixels + column, n);
            const float* seen = copied + channel * channel_length + column;
            for (int i = 0; i < count; ++i)
              totals[i] = at::vec::fmadd(load(seen + offsets[i], n), value, totals[i]);
          }
          for (int i = 0; i < count; ++i)
            store(totals[i], out_row + (position + i) * pixels + column, n);
        });
    });
  });
  return result;
}

// One position of the windows as seen from an input row: where it finds the gradients of the
// output, and the weights that belong to them.
struct Tap {
  int64_t gradient;
  std::vector<float> weights;
};

// The transpose in the input: grad (B, C, h, w), kernel (B, G, K * K, h, w).
at::Tensor input_gradient(const at::Tensor& grad, const at::Tensor& kernel,
                          at::IntArrayRef input_shape, int64_t stride) {
  const Sizes sizes(input_shape, kernel.sizes(), stride);
  const float *gradient = data(grad, grad.sizes()), *weights = data(kernel, kernel.sizes());
  at::Tensor result = at::empty(input_shape, grad.options());
  float* output = result.mutable_data_ptr<float>();
  const int64_t pixels = sizes.out_height * sizes.out_width, margin = sizes.margin();
  // Rows of the gradient with zeros at both ends.
  const int64_t zeros = sizes.kernel / stride + 1;
  const int64_t length = at::divup(sizes.width, stride) + 2 * zeros;
  const int64_t halo = sizes.kernel / stride + 2;
  const int64_t floats = sizes.channels * length;
  for_each_rows(sizes.groups, sizes.height, floats, floats * halo, [&](int64_t group, int64_t top,
                                                                       int64_t rows,
                                                                       float* copied) {
    // Output rows whose windows reach one of the input rows.
    const int64_t below = top + margin - sizes.kernel + 1;
    const int64_t first = below > 0 ? at::divup(below, stride) : 0;
    const int64_t last = std::min((top + rows - 1 + margin) / stride, sizes.out_height - 1);
    const int64_t seen = std::max<int64_t>(last - first + 1, 0);
    std::fill_n(copied, sizes.channels * seen * length, 0.f);
    for (int64_t channel = 0; channel < sizes.channels; ++channel)
      for (int64_t row = 0; row < seen; ++row)
        std::copy_n(gradient + (group * sizes.channels + channel) * pixels +
                        (first + row) * sizes.out_width,
                    sizes.out_width, copied + (channel * seen + row) * length + zeros);
    std::vector<Tap> taps(sizes.positions());
    for (int64_t y = top; y < top + rows; ++y)
      for (int64_t phase = 0; phase < std::min(stride, sizes.width); ++phase) {
        const int64_t columns = at::divup(sizes.width - phase, stride);
        int64_t count = 0;
        for (int64_t position = 0; position < sizes.positions(); ++position) {
          const int64_t down = y + margin - position / sizes.kernel;
          const int64_t right = phase + margin - position % sizes.kernel;
          if (down < 0 || down % stride || right % stride || down / stride >= sizes.out_height)
            continue;
          const int64_t row = down / stride, shift = right / stride;
          Tap& tap = taps[count++];
          tap.gradient = (row - first) * length + zeros + shift;
          tap.weights.assign(columns, 0.f);
          const float* from =
              weights + (group * sizes.positions() + position) * pixels + row * sizes.out_width;
          const int64_t begin = std::max<int64_t>(-shift, 0);
          const int64_t end = std::min(columns, sizes.out_width - shift);
          if (begin < end)
            std::copy(from + begin + shift, from + end + shift, tap.weights.begin() + begin);
        }
        float* out_row = output + (group * sizes.channels * sizes.height + y) * sizes.width + phase;
        for_each_vector(columns, [&](int64_t column, auto n) {
          for_each_part<8, 1>(sizes.channels, [&](int64_t channel, auto size) {
            Vec totals[size];
            std::fill_n(totals, +size, Vec(0));
            const float* from = copied + channel * seen * length + column;
            for (int64_t tap = 0; tap < count; ++tap) {
              const Vec weight = load(taps[tap].weights.data() + column, n);
              for (int i = 0; i < size; ++i)
                totals[i] = at::vec::fmadd(load(from + taps[tap].gradient + i * seen * length, n),
                                           weight, totals[i]);
            }
            for (int i = 0; i < size; ++i) {
              float* out = out_row + (channel + i) * sizes.height * sizes.width + column * stride;
              if (stride == 1) {
                store(totals[i], out, n);
                continue;
              }
              float lanes[kLanes];
              totals[i].store(lanes);
              for (int64_t lane = 0; lane < n; ++lane) out[lane * stride] = lanes[lane];
            }
          });
        });
      }
  });
  return result;
}

}  // namespace
}  // namespace revcol

TORCH_LIBRARY_FRAGMENT(revcol_backbone, library) {
  library.def("native_involution(Tensor x, Tensor kernel, int stride) -> Tensor");
  library.def(
      "native_involution_input_gradient(Tensor grad, Tensor kernel, int[] input_shape, "
      "int stride) -> Tensor");
  library.def(
      "native_involution_kernel_gradient(Tensor grad, Tensor x, int[] kernel_shape, int stride) "
      "-> Tensor");
}

TORCH_LIBRARY_IMPL(revcol_backbone, CPU, library) {
  library.impl("native_involution", &revcol::aggregate);
  library.impl("native_involution_input_gradient", &revcol::input_gradient);
  library.impl("native_involution_kernel_gradient", &revcol::kernel_gradient);
}
