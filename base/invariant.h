#pragma once
// INVARIANT states what must hold if the program is right. It is always on and aborts, naming the place.
// Never use it on input: bad input is an Error.

namespace sluice::base {

[[noreturn]] void invariant_failed(const char* condition, const char* file, int line) noexcept;

}  // namespace sluice::base

#define INVARIANT(condition)                                            \
  do {                                                                  \
    if (!(condition)) [[unlikely]]                                      \
      ::sluice::base::invariant_failed(#condition, __FILE__, __LINE__); \
  } while (false)
