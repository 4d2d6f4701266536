// GELU and its derivative, exact to float32's rounding.

#pragma once

#include <iterator>

#include "tiles.h"

namespace revcol {

// The normal distribution up to x as 1/2 + x q(x^2), with q a polynomial that was fitted by least
// squares in Chebyshev nodes. Beyond 5.3 it is 0 or 1 to float's precision.
inline Vec normal_distribution(const Vec& x) {
  constexpr float kLimit = 5.3f;
  constexpr float kCoefficients[] = {
      1.333925633e-01f,  -6.651849872e-02f, 4.926408979e-02f,  -3.958915038e-02f,
      3.208079674e-02f,  -2.529639657e-02f, 1.891760483e-02f,  -1.319246867e-02f,
      8.853200979e-03f,  -5.837189765e-03f, 3.096170187e-03f,  -1.106341745e-03f,
      7.616355157e-04f,  -7.612290297e-04f, 2.748282583e-04f};
  const Vec limited = at::vec::clamp(x, Vec(-kLimit), Vec(kLimit));
  // x^2 is moved from 0 .. limit^2 to -1 .. 1.
  const Vec t = at::vec::fmadd(limited * limited, Vec(2 / (kLimit * kLimit)), Vec(-1));
  Vec q(0);
  for (auto c = std::rbegin(kCoefficients); c != std::rend(kCoefficients); ++c)
    q = at::vec::fmadd(q, t, Vec(*c));
  return at::vec::fmadd(limited, q, Vec(0.5f));
}

inline Vec gelu(const Vec& x) { return x * normal_distribution(x); }

// The derivative of GELU where the distribution is known.
inline Vec gelu_derivative(const Vec& x, const Vec& distribution) {
  const Vec density = Vec(0.3989422804f) * (x * x * Vec(-0.5f)).exp_u20();
  return at::vec::fmadd(x, density, distribution);
}

}  // namespace revcol
