/*
 * A layer between the Vulkan loader and a driver that makes the driver fail as drivers do: DRIVER_FAULT is a word and
 * a number n, with a colon between them. Where DRIVER_FAULT_AFTER names a file, nothing is counted before it exists.
 *
 *   submit:n  the device is lost when commands are submitted for the n-th time
 *   wait:n    the device is lost while it is waited for the n-th time
 *   memory:n  the driver gives out n MiB of memory, ever, and no more
 *   kernel:n  the n-th kernel, and each one after it, is not compiled
 *   binding:n kernels see n KiB of an array
 *   buffer:n  buffers have n KiB at most
 *
 * What a layer is and how the loader speaks to it: "Architecture of the Vulkan Loader Interfaces". The few types of
 * Vulkan that are needed are declared here, as its specification has them, so that no header has to be installed.
 */
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int32_t VkResult;
typedef void *Handle; /* an instance, a physical device, a device or a queue */
typedef void (*Function)(void);
typedef Function (*GetProcAddr)(Handle, const char *);

enum {
    SUCCESS = 0,
    INITIALIZATION_FAILED = -3,
    OUT_OF_DEVICE_MEMORY = -2,
    DEVICE_LOST = -4,
    UNKNOWN = -13,
    LOADER_INSTANCE_CREATE_INFO = 47,
    LOADER_DEVICE_CREATE_INFO = 48,
    LAYER_LINK_INFO = 0,
    MAINTENANCE_3_PROPERTIES = 1000168001,
    MAINTENANCE_4_PROPERTIES = 1000413001,
};

/* How the loader says what comes next; VkLayerInstanceCreateInfo and VkLayerDeviceCreateInfo begin alike. */
typedef struct Link {
    struct Link *next;
    GetProcAddr instance;
    GetProcAddr device; /* of devices only */
} Link;

typedef struct Chain {
    int32_t type;
    struct Chain *next;
    int32_t function;
    Link *link;
} Chain;

/* The beginning of every structure that creates something. */
typedef struct {
    int32_t type;
    Chain *next;
} CreateInfo;

typedef struct {
    int32_t type;
    const void *next;
    uint64_t bytes;
    uint32_t memory_type;
} AllocateInfo;

/* The beginning of VkPhysicalDeviceProperties, whose limits come behind 296 bytes. */
typedef struct {
    uint8_t name_and_version[296];
    uint32_t images_and_uniforms[7];
    uint32_t storage_range;
} Properties;

/* What is known of a device besides, one structure behind the other: VkPhysicalDeviceMaintenance3Properties has its
 * bytes behind another number. */
typedef struct More {
    int32_t type;
    struct More *next;
    union {
        uint64_t bytes;
        struct {
            uint32_t descriptors;
            uint64_t bytes;
        } of_3;
    } limit;
} More;

typedef struct {
    int32_t type;
    void *next;
    uint32_t version;
    GetProcAddr instance;
    GetProcAddr device;
    GetProcAddr physical_device;
} Negotiation;

typedef VkResult (*CreateInstance)(const CreateInfo *, const void *, Handle *);
typedef VkResult (*CreateDevice)(Handle, const CreateInfo *, const void *, Handle *);
typedef void (*GetProperties)(Handle, Properties *);
typedef void (*GetMore)(Handle, More *);
typedef VkResult (*Submit)(Handle, uint32_t, const void *, uint64_t);
typedef VkResult (*Wait)(Handle, const void *, uint64_t);
typedef VkResult (*Value)(Handle, uint64_t, uint64_t *);
typedef VkResult (*Allocate)(Handle, const AllocateInfo *, const void *, uint64_t *);
typedef VkResult (*Pipelines)(Handle, uint64_t, uint32_t, const void *, const void *, uint64_t *);

/* One instance, and one device that is used: graft has no more at a time. */
static GetProcAddr next_instance;
static GetProcAddr next_device;
static Handle device;
/* Asked for while the instance is made: later the loader gives the first layer's. */
static GetProperties next_properties;
static GetMore next_more;
static _Atomic uint64_t submits, waits, kernels, bytes;
static atomic_bool lost;

/* The n of DRIVER_FAULT if its word is this one, else more than anything counts to. */
static uint64_t limit(const char *word)
{
    const char *fault = getenv("DRIVER_FAULT");
    size_t length = strlen(word);
    if (fault == NULL || strncmp(fault, word, length) != 0 || fault[length] != ':')
        return UINT64_MAX;
    return strtoull(fault + length + 1, NULL, 10);
}

/* One more, if it counts yet. */
static uint64_t counted(_Atomic uint64_t *count, uint64_t more)
{
    const char *after = getenv("DRIVER_FAULT_AFTER");
    if (after != NULL && access(after, F_OK) != 0)
        return 0;
    return atomic_fetch_add(count, more) + more;
}

static Function of_device(const char *name)
{
    return next_device(device, name);
}

static VkResult submit(Handle queue, uint32_t count, const void *what, uint64_t fence)
{
    if (counted(&submits, 1) >= limit("submit"))
        atomic_store(&lost, 1);
    if (atomic_load(&lost))
        return DEVICE_LOST;
    return ((Submit)of_device("vkQueueSubmit"))(queue, count, what, fence);
}

static VkResult wait(Handle of, const void *what, uint64_t timeout)
{
    if (counted(&waits, 1) >= limit("wait"))
        atomic_store(&lost, 1);
    if (atomic_load(&lost))
        return DEVICE_LOST;
    return ((Wait)of_device("vkWaitSemaphores"))(of, what, timeout);
}

static VkResult value(Handle of, uint64_t semaphore, uint64_t *out)
{
    if (atomic_load(&lost))
        return DEVICE_LOST;
    return ((Value)of_device("vkGetSemaphoreCounterValue"))(of, semaphore, out);
}

static VkResult allocate(Handle of, const AllocateInfo *what, const void *allocator, uint64_t *out)
{
    uint64_t most = limit("memory");
    if (most != UINT64_MAX && counted(&bytes, what->bytes) > most << 20)
        return OUT_OF_DEVICE_MEMORY;
    return ((Allocate)of_device("vkAllocateMemory"))(of, what, allocator, out);
}

static VkResult pipelines(Handle of, uint64_t cache, uint32_t count, const void *what, const void *allocator,
                          uint64_t *out)
{
    if (counted(&kernels, count) >= limit("kernel")) {
        memset(out, 0, count * sizeof *out);
        return UNKNOWN;
    }
    return ((Pipelines)of_device("vkCreateComputePipelines"))(of, cache, count, what, allocator, out);
}

static void properties(Handle physical, Properties *out)
{
    uint64_t most = limit("binding");
    next_properties(physical, out);
    if (most < out->storage_range >> 10)
        out->storage_range = (uint32_t)most << 10;
}

static void more_properties(Handle physical, More *out)
{
    uint64_t most = limit("buffer");
    next_more(physical, out);
    for (out = out->next; out != NULL && most != UINT64_MAX; out = out->next) {
        if (out->type == MAINTENANCE_3_PROPERTIES)
            out->limit.of_3.bytes = most << 10;
        if (out->type == MAINTENANCE_4_PROPERTIES)
            out->limit.bytes = most << 10;
    }
}

static Link *take_link(const CreateInfo *info, int32_t type)
{
    Chain *chain = info->next;
    while (chain != NULL && (chain->type != type || chain->function != LAYER_LINK_INFO))
        chain = chain->next;
    if (chain == NULL)
        return NULL;
    Link *link = chain->link;
    chain->link = link->next; /* for the layer below */
    return link;
}

static VkResult create_instance(const CreateInfo *info, const void *allocator, Handle *out)
{
    Link *link = take_link(info, LOADER_INSTANCE_CREATE_INFO);
    if (link == NULL)
        return INITIALIZATION_FAILED;
    next_instance = link->instance;
    VkResult result = ((CreateInstance)next_instance(NULL, "vkCreateInstance"))(info, allocator, out);
    if (result == SUCCESS) {
        next_properties = (GetProperties)next_instance(*out, "vkGetPhysicalDeviceProperties");
        next_more = (GetMore)next_instance(*out, "vkGetPhysicalDeviceProperties2");
    }
    return result;
}

static Function get_device(Handle of, const char *name);

static VkResult create_device(Handle physical, const CreateInfo *info, const void *allocator, Handle *out)
{
    Link *link = take_link(info, LOADER_DEVICE_CREATE_INFO);
    if (link == NULL)
        return INITIALIZATION_FAILED;
    next_device = link->device;
    CreateDevice create = (CreateDevice)link->instance(NULL, "vkCreateDevice");
    VkResult result = create(physical, info, allocator, out);
    if (result == SUCCESS)
        device = *out;
    return result;
}

static Function get_instance(Handle of, const char *name);

static const struct {
    const char *name;
    Function function;
} OURS[] = {
    {"vkGetInstanceProcAddr", (Function)get_instance},
    {"vkCreateInstance", (Function)create_instance},
    {"vkCreateDevice", (Function)create_device},
    {"vkGetDeviceProcAddr", (Function)get_device},
    {"vkGetPhysicalDeviceProperties", (Function)properties},
    {"vkGetPhysicalDeviceProperties2", (Function)more_properties},
    {"vkGetPhysicalDeviceProperties2KHR", (Function)more_properties},
    {"vkQueueSubmit", (Function)submit},
    {"vkWaitSemaphores", (Function)wait},
    {"vkWaitSemaphoresKHR", (Function)wait},
    {"vkGetSemaphoreCounterValue", (Function)value},
    {"vkGetSemaphoreCounterValueKHR", (Function)value},
    {"vkAllocateMemory", (Function)allocate},
    {"vkCreateComputePipelines", (Function)pipelines},
};

static Function ours(const char *name)
{
    for (size_t i = 0; i < sizeof OURS / sizeof OURS[0]; i++)
        if (strcmp(name, OURS[i].name) == 0)
            return OURS[i].function;
    return NULL;
}

static Function get_instance(Handle of, const char *name)
{
    Function function = ours(name);
    return function != NULL || next_instance == NULL ? function : next_instance(of, name);
}

static Function get_device(Handle of, const char *name)
{
    Function function = ours(name);
    return function != NULL ? function : next_device(of, name);
}

VkResult vkNegotiateLoaderLayerInterfaceVersion(Negotiation *negotiation)
{
    if (negotiation->version < 2)
        return INITIALIZATION_FAILED;
    negotiation->version = 2;
    negotiation->instance = get_instance;
    negotiation->device = get_device;
    negotiation->physical_device = NULL;
    return SUCCESS;
}
