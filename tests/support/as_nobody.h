#pragma once
// Drops the calling thread's privileges, so that it may open only what everybody may open, also when tests
// run as root.

#include <sys/fsuid.h>

namespace sluice::tests {

class AsNobody {
 public:
  AsNobody() : user_(static_cast<uid_t>(setfsuid(kNobody))) {}
  ~AsNobody() { setfsuid(user_); }
  AsNobody(const AsNobody&) = delete;
  AsNobody& operator=(const AsNobody&) = delete;

 private:
  static constexpr uid_t kNobody = 65534;
  uid_t user_;
};

}  // namespace sluice::tests
