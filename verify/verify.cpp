#include "verify/verify.h"

namespace sluice::verify {

std::string_view to_string(FileState state) {
  switch (state) {
    case FileState::ok: return "ok";
    case FileState::damaged: return "damaged";
    case FileState::missing: return "missing";
    case FileState::extra: return "extra";
    case FileState::unreadable: return "unreadable";
    case FileState::unproven: return "unproven";
    case FileState::changed: return "changed";
  }
  return {};
}

char to_mark(FileState state) {
  switch (state) {
    case FileState::ok: return '=';
    case FileState::damaged: return '*';
    case FileState::missing: return '-';
    case FileState::extra: return '+';
    case FileState::unreadable: return '!';
    case FileState::unproven: return '?';
    case FileState::changed: return '~';
  }
  return {};
}

}  // namespace sluice::verify
