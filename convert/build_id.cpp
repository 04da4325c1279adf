// Reads the build id from the program's own notes in memory. A version number would not do: two builds of one
// version, with other flags or compilers, may round differently.

#include "convert/build_id.h"

#include <elf.h>
#include <link.h>

#include <cstring>
#include <string_view>

#include "base/invariant.h"

namespace sluice::convert {
namespace {

constexpr std::string_view kOwner("GNU", 4);  // includes the terminating zero

std::size_t aligned(std::size_t bytes) { return (bytes + 3) / 4 * 4; }

/// Searches a segment of notes, each of which is a header, an owner and content (elf(5)).
base::Bytes find_build_id(base::Bytes notes) {
  while (notes.size() >= sizeof(ElfW(Nhdr))) {
    ElfW(Nhdr) header;
    std::memcpy(&header, notes.data(), sizeof(header));
    const std::size_t content_at = sizeof(header) + aligned(header.n_namesz);
    const std::size_t end = content_at + aligned(header.n_descsz);
    if (end > notes.size()) break;
    if (header.n_type == NT_GNU_BUILD_ID &&
        base::as_text(notes.subspan(sizeof(header), header.n_namesz)) == kOwner)
      return notes.subspan(content_at, header.n_descsz);
    notes = notes.subspan(end);
  }
  return {};
}

/// dl_iterate_phdr visits the program itself first; returning 1 ends the iteration after it.
int visit_program(dl_phdr_info* object, std::size_t, void* result) {
  for (int i = 0; i < object->dlpi_phnum; ++i) {
    const auto& segment = object->dlpi_phdr[i];
    if (segment.p_type != PT_NOTE) continue;
    const auto* const start = reinterpret_cast<const std::byte*>(object->dlpi_addr + segment.p_vaddr);
    const base::Bytes found = find_build_id({start, segment.p_memsz});
    if (found.empty()) continue;
    *static_cast<base::Bytes*>(result) = found;
    break;
  }
  return 1;
}

}  // namespace

base::Bytes build_id() {
  base::Bytes found;
  ::dl_iterate_phdr(visit_program, &found);
  INVARIANT(!found.empty());  // cmake/sluice.cmake asks the linker for it
  return found;
}

}  // namespace sluice::convert
