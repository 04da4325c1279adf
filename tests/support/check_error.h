#pragma once
// CHECK_ERROR(expression, kind, part): the expression throws base::Error of that kind, and its message
// contains `part`.

#include <doctest/doctest.h>

#include <string>

#include "base/error.h"

#define CHECK_ERROR(expression, expected_kind, part)                 \
  do {                                                               \
    std::string message_;                                            \
    try {                                                            \
      static_cast<void>(expression);                                 \
      FAIL_CHECK("no Error from: " #expression);                     \
    } catch (const ::sluice::base::Error& error_) {                  \
      message_ = error_.what();                                      \
      CHECK_MESSAGE(error_.kind() == (expected_kind), message_);     \
      CHECK_MESSAGE(message_.find(std::string(part)) != std::string::npos, \
                    "expected '" << (part) << "' in: " << message_); \
    }                                                                \
  } while (false)
