// A linear layer, or a convolution whose kernels lie side by side, LayerNorm of its result, and the
// addition of a smaller map that is upsampled: the branches of a level's fusion.

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <optional>

#include "tiles.h"

namespace revcol {
namespace {

// Where F.interpolate(mode='nearest') takes a pixel from, in its own arithmetic.
int64_t nearest(int64_t index, int64_t from, int64_t to) {
  if (to == from) return index;
  if (to == 2 * from) return index / 2;
  const float ratio = static_cast<float>(from) / static_cast<float>(to);
  return std::min(static_cast<int64_t>(std::floor(static_cast<float>(index) * ratio)), from - 1);
}

// The maps' sizes: (batch, height, width, channels) of the input and the result.
struct Patches {
  int64_t in_height, in_width, in_channels, size, height, width;

  // Copies the input's size x size pixels under one of the result's.
  void gather(const float* image, int64_t pixel, float* to) const {
    const int64_t length = size * in_channels;
    const int64_t x = pixel % width, y = pixel / width % height, sample = pixel / width / height;
    for (int64_t row = 0; row < size; ++row) {
      const int64_t source = (sample * in_height + y * size + row) * in_width + x * size;
      std::copy_n(image + source * in_channels, length, to + row * length);
    }
  }

  // The pixel of a map of another size that is upsampled to one of the result's.
  int64_t source(const at::Tensor& map, int64_t pixel) const {
    const int64_t x = pixel % width, y = pixel / width % height, sample = pixel / width / height;
    return (sample * map.size(1) + nearest(y, map.size(1), height)) * map.size(2) +
           nearest(x, map.size(2), width);
  }
};

// x (B, H, W, in); weight (size^2 in, C) in panels; added (B, h, w, C). (B, H / size, W / size, C).
at::Tensor packed_projection(const at::Tensor& x, int64_t size, const at::Tensor& weight,
                             const at::Tensor& bias, const at::Tensor& scale,
                             const at::Tensor& shift, double eps,
                             const std::optional<at::Tensor>& added) {
  TORCH_CHECK(x.dim() == 4 && size > 0, "packed_projection expected x of shape (B, H, W, C)");
  const Patches patches{x.size(1), x.size(2), x.size(3), size, x.size(1) / size, x.size(2) / size};
  const int64_t channels = bias.numel(), inner = size * size * patches.in_channels;
  const float* matrix = data(weight, {inner * channels});
  const float *biases = data(bias, {channels}), *scales = data(scale, {channels});
  const float *shifts = data(shift, {channels}), *image = data(x, x.sizes());
  const float* other = nullptr;
  if (added.has_value()) {
    TORCH_CHECK(added->dim() == 4 && added->size(1) > 0 && added->size(2) > 0,
                "packed_projection expected added of shape (B, h, w, C) with pixels");
    other = data(*added, {x.size(0), added->size(1), added->size(2), channels});
  }
  at::Tensor result = at::empty({x.size(0), patches.height, patches.width, channels}, x.options());
  float* output = result.mutable_data_ptr<float>();
  for_each_tile(result.numel() / channels, inner, [&](int64_t start, int64_t rows, float* scratch) {
    for (int64_t row = 0; row < rows; ++row)
      patches.gather(image, start + row, scratch + row * inner);
    float* out = output + start * channels;
    for (int64_t column = 0; column < channels; column += kPanel)
      multiply(rows, std::min(kPanel, channels - column), inner, scratch, inner,
               matrix + column * inner, out + column, channels, false);
    for (int64_t row = 0; row < rows; ++row, out += channels) {
      for_each_vector(channels, [&](int64_t c, auto n) {
        store(load(out + c, n) + load(biases + c, n), out + c, n);
      });
      const float* upsampled =
          other ? other + patches.source(*added, start + row) * channels : nullptr;
      normalize(out, channels, static_cast<float>(eps), [&](int64_t c, auto n, const Vec& value) {
        Vec sum = at::vec::fmadd(value, load(scales + c, n), load(shifts + c, n));
        if (upsampled) sum = sum + load(upsampled + c, n);
        store(sum, out + c, n);
      });
    }
  });
  return result;
}

}  // namespace
}  // namespace revcol

TORCH_LIBRARY_FRAGMENT(revcol_backbone, library) {
  library.def(
      "packed_projection(Tensor x, int size, Tensor weight, Tensor bias, Tensor scale, "
      "Tensor shift, float eps, Tensor? added) -> Tensor");
}

TORCH_LIBRARY_IMPL(revcol_backbone, CPU, library) {
  library.impl("packed_projection", &revcol::packed_projection);
}
