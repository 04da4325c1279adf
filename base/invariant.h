#pragma once
// INVARIANT(condition) states what a correct program guarantees. It is active in every build, and aborts with
// the source line when the condition is false. Never use it on input: bad input is an Error.

namespace sluice::base {

[[noreturn]] void invariant_failed(const char* condition, const char* file, int line) noexcept;

}  // namespace sluice::base

#define INVARIANT(condition)                                            \
  do {                                                                  \
    if (!(condition)) [[unlikely]]                                      \
      ::sluice::base::invariant_failed(#condition, __FILE__, __LINE__); \
  } while (false)
