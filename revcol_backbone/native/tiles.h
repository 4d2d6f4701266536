// What the functions on tiles of rows share: vectors, products of matrices, and LayerNorm. A row is
// one pixel with all its channels.

#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/cpu/vec/vec.h>
#include <ATen/native/CPUBlas.h>

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

namespace revcol {

using Vec = at::vec::Vectorized<float>;

constexpr int64_t kLanes = Vec::size();
// Columns of a weight that lie together (packing.py puts them there) and that one product computes.
constexpr int64_t kPanel = 64;

// How many lanes of a vector are used: all, which the compiler knows, or fewer at a row's end.
using All = std::integral_constant<int64_t, kLanes>;

inline Vec load(const float* from, All) { return Vec::loadu(from); }
inline Vec load(const float* from, int64_t count) { return Vec::loadu(from, count); }
inline void store(const Vec& value, float* to, All) { value.store(to); }
inline void store(const Vec& value, float* to, int64_t count) { value.store(to, count); }

// Zero in the lanes that are not used.
inline Vec used(const Vec& value, All) { return value; }
inline Vec used(const Vec& value, int64_t count) { return Vec::set(Vec(0), value, count); }

// Calls run(offset, count) for every vector of a row.
template <class Run>
void for_each_vector(int64_t length, const Run& run) {
  int64_t offset = 0;
  for (; offset + kLanes <= length; offset += kLanes) run(offset, All());
  if (offset < length) run(offset, length - offset);
}

inline float sum(const Vec& value) {
  float lanes[kLanes];
  value.store(lanes);
  for (int64_t half = kLanes / 2; half > 0; half /= 2)
    for (int64_t lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  return lanes[0];
}

// to = from * matrix, or to += from * matrix; row-major, with these distances between rows.
inline void multiply(int64_t rows, int64_t columns, int64_t inner, const float* from,
                     int64_t from_row, const float* matrix, float* to, int64_t to_row, bool add) {
  namespace blas = at::native::cpublas;
#ifdef CPUBLAS_BRGEMM_F32F32F32
  blas::brgemm(rows, columns, inner, from_row, columns, to_row, add, from, matrix, to, false);
#else
  constexpr auto kAsIs = at::native::TransposeType::NoTranspose;
  blas::gemm(kAsIs, kAsIs, columns, rows, inner, 1.f, matrix, columns, from, from_row,
             add ? 1.f : 0.f, to, to_row);
#endif
}

// Calls finish(offset, count, normalized) for every vector of a row of any mean and variance, and
// returns what the row was scaled by.
template <class Finish>
float normalize(const float* row, int64_t channels, float eps, const Finish& finish) {
  Vec total(0), squares(0);
  for_each_vector(channels, [&](int64_t c, auto n) { total = total + load(row + c, n); });
  const Vec mean(sum(total) / channels);
  for_each_vector(channels, [&](int64_t c, auto n) {
    const Vec centered = used(load(row + c, n) - mean, n);
    squares = at::vec::fmadd(centered, centered, squares);
  });
  const float scale = 1 / std::sqrt(sum(squares) / channels + eps);
  for_each_vector(channels, [&](int64_t c, auto n) {
    finish(c, n, (load(row + c, n) - mean) * Vec(scale));
  });
  return scale;
}

// Rows of a tile. All threads get equally many tiles; multiples of 8 are few, since a product of
// each number of rows is compiled once.
inline int64_t tile_rows(int64_t rows) {
  constexpr int64_t kMaxRows = 192;
  const int64_t threads = at::get_num_threads();
  const int64_t tiles = threads * at::divup(rows, threads * kMaxRows);
  return at::divup(at::divup(rows, tiles), 8) * 8;
}

// Runs run(first row, rows, scratch) for every tile, with memory for so many floats a row.
template <class Run>
void for_each_tile(int64_t rows, int64_t floats_per_row, const Run& run) {
  if (rows == 0) return;
  const int64_t size = tile_rows(rows);
  at::parallel_for(0, at::divup(rows, size), 1, [&](int64_t begin, int64_t end) {
    std::vector<float> scratch(size * floats_per_row);
    for (int64_t tile = begin; tile < end; ++tile)
      run(tile * size, std::min(size, rows - tile * size), scratch.data());
  });
}

inline const float* data(const at::Tensor& tensor, at::IntArrayRef shape) {
  TORCH_CHECK(tensor.sizes() == shape && tensor.is_contiguous() &&
                  tensor.scalar_type() == at::kFloat && tensor.is_cpu(),
              "a native function expected a contiguous float32 tensor of shape ", shape,
              " on the CPU");
  return tensor.const_data_ptr<float>();
}

}  // namespace revcol
