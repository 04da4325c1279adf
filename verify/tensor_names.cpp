// Names the contents of damaged ranges from the file's own index (zip directory, safetensors header,
// container directory). When the damage is in the index itself, the parts that can still be read give names,
// and the reason for the rest is returned.

#include "verify/tensor_names.h"

#include <algorithm>

#include "base/error.h"
#include "format/container_check.h"

namespace sluice::verify {
namespace {

using base::ByteRange;

bool intersects(const DamagedRange& damage, std::uint64_t offset_bytes, std::uint64_t length_bytes) {
  return base::overlaps(damage.range, {offset_bytes, length_bytes});
}

/// A range may touch the same kind of part several times, such as padding; one mention is enough.
void add_part(DamagedRange& damage, const std::string& name) {
  if (std::ranges::find(damage.parts, name) == damage.parts.end()) damage.parts.push_back(name);
}

/// A storage (the bytes of tensors in a .pth file) is named only where none of its tensors is damaged or
/// known.
void name_in_checkpoint(const format::CheckpointMap& map, DamagedRange& damage) {
  const std::uint64_t begin = damage.range.offset_bytes;
  const std::uint64_t end = damage.range.end_bytes();
  for (const format::CheckpointTensor& tensor : map.tensors) {
    if (format::touches(tensor, begin, end))
      damage.tensors.push_back({tensor.name, format::touched_rows(tensor, begin, end), {}, {}});
  }
  // Tensors are more telling than storages. A storage is named only for bytes that no tensor covers, or when
  // the pickle that names the tensors is damaged.
  for (const format::FilePart& part : map.parts) {
    const ByteRange here = intersection(damage.range, {part.offset_bytes, part.length_bytes});
    if (here.length_bytes == 0) continue;
    const bool named = part.storage && std::ranges::any_of(map.tensors, [&](const auto& tensor) {
                         return format::touches(tensor, here.offset_bytes, here.end_bytes());
                       });
    if (!named) add_part(damage, part.name);
  }
}

/// Header and footer are found by their fixed places, also when the directory is damaged; sections and
/// tensors need the directory.
void name_in_container(const format::ContainerCheck& examined, std::uint64_t file_bytes,
                       DamagedRange& damage) {
  if (intersects(damage, 0, format::kContainerHeaderBytes)) add_part(damage, "header");
  if (examined.reader) {
    const format::ContainerReader& container = *examined.reader;
    std::uint64_t named_bytes = 0;
    // `named_bytes` counts the bytes that named parts cover. The rest of the range is padding, which the
    // directory does not list.
    const auto count = [&](std::uint64_t offset_bytes, std::uint64_t length_bytes) {
      const std::uint64_t shared_bytes =
          intersection(damage.range, {offset_bytes, length_bytes}).length_bytes;
      named_bytes += shared_bytes;
      return shared_bytes > 0;
    };
    for (const auto& section : container.sections()) {
      if (count(section.offset_bytes, section.length_bytes)) add_part(damage, "section " + section.name);
    }
    for (const auto& tensor : container.tensors()) {
      if (count(tensor.offset_bytes, tensor.length_bytes))
        damage.tensors.push_back(touched(container, tensor));
    }
    const format::ContainerFooter& footer = container.footer();
    if (count(footer.directory_offset_bytes, footer.directory_length_bytes)) add_part(damage, "directory");
    // Header and footer are counted here, so that they do not pass for padding; their names are added outside
    // of this block.
    count(0, format::kContainerHeaderBytes);
    count(file_bytes - format::kContainerFooterBytes, format::kContainerFooterBytes);
    if (named_bytes < damage.range.length_bytes) add_part(damage, "padding");
  }
  if (intersects(damage, file_bytes - format::kContainerFooterBytes, format::kContainerFooterBytes))
    add_part(damage, "footer");
}

/// A damaged container may have lost its marks, so the extension counts, too.
bool is_container(const std::filesystem::path& file) {
  return file.extension() == ".sluice" || format::is_container(file);
}

}  // namespace

TouchedTensor touched(const format::ContainerReader& container, const format::ContainerTensor& tensor) {
  TouchedTensor found{tensor.name, {}, {}, {}};
  // The tensors of an expert lie together in its extent, so their offsets tell the expert; names differ
  // between model families.
  const auto expert = std::ranges::find_if(container.experts(), [&](const format::ContainerExpert& run) {
    return tensor.offset_bytes >= run.offset_bytes &&
           tensor.offset_bytes < run.offset_bytes + run.length_bytes;
  });
  if (expert != container.experts().end()) {
    found.layer = expert->layer;
    found.expert = expert->expert;
  }
  return found;
}

std::string name_tensors(const std::filesystem::path& file, std::vector<DamagedRange>& damaged) {
  if (damaged.empty()) return {};
  if (is_container(file)) {
    try {
      const auto examined = format::check_container(file);
      const std::uint64_t file_bytes = std::filesystem::file_size(file);
      for (DamagedRange& damage : damaged) name_in_container(examined, file_bytes, damage);
      return examined.reader ? "" : "which tensors it touches is not known: the directory is damaged";
    } catch (const base::Error& error) {
      if (error.kind() != base::ErrorKind::malformed) throw;
      return std::string("which tensors it touches is not known: ") + error.what();
    }
  }
  // The map must not follow entries that lie in damaged bytes: they could name the wrong tensors.
  const auto is_damaged = [&](std::uint64_t offset_bytes, std::uint64_t length_bytes) {
    return std::ranges::any_of(
        damaged, [&](const DamagedRange& damage) { return intersects(damage, offset_bytes, length_bytes); });
  };
  const auto map = format::map_damaged_checkpoint(file, is_damaged);
  if (!map) return {};
  for (DamagedRange& damage : damaged) name_in_checkpoint(*map, damage);
  return map->problem;
}

}  // namespace sluice::verify
