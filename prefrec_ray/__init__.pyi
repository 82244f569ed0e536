from prefrec_ray.algorithms import BCQ as BCQ
from prefrec_ray.algorithms import DDPG as DDPG
from prefrec_ray.algorithms import IL as IL
from prefrec_ray.algorithms import IQL as IQL
from prefrec_ray.algorithms import SAC as SAC
from prefrec_ray.algorithms import TD3 as TD3
from prefrec_ray.algorithms import TD3_BC as TD3_BC
from prefrec_ray.algorithms import PrefRec as PrefRec
from prefrec_ray.algorithms.bcq import BCQConfig as BCQConfig
from prefrec_ray.algorithms.ddpg import DDPGConfig as DDPGConfig
from prefrec_ray.algorithms.il import ILConfig as ILConfig
from prefrec_ray.algorithms.iql import IQLConfig as IQLConfig
from prefrec_ray.algorithms.prefrec import PrefRecConfig as PrefRecConfig
from prefrec_ray.algorithms.sac import SACConfig as SACConfig
from prefrec_ray.algorithms.td3 import TD3BCConfig as TD3BCConfig
from prefrec_ray.algorithms.td3 import TD3Config as TD3Config
from prefrec_ray.dataset import PreparedDataset as PreparedDataset
from prefrec_ray.errors import UserError as UserError
from prefrec_ray.policy import Policy as Policy

__version__: str
